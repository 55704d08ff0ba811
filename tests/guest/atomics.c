/*
 * Atomic instructions of several harts at once: counters, bits, tokens, locks, lists; what SC has to notice; Zacas where
 * the hart has it.
 */
#include "guest.h"

static unsigned count; /* of harts, in all tests */
static unsigned steps; /* of each hart */

/* Variables with lines of their own. */
static struct {
    volatile ulong value;
    char pad[64 - sizeof(ulong)];
    volatile ulong other;
    char pad2[64 - sizeof(ulong)];
    volatile u64 guarded[8];
} shared __attribute__((aligned(64)));

static void begin(unsigned n)
{
    memset((void *)&shared, 0, sizeof(shared));
    steps = rounds(n);
}

#define AMO(op, p, v)                                                                              \
    ({                                                                                             \
        __typeof__(*(p) + 0) old_;                                                                 \
        asm volatile(op " %0, %2, (%1)" : "=&r"(old_) : "r"(p), "r"(v) : "memory");                \
        old_;                                                                                      \
    })
#define LR(op, p)                                                                                  \
    ({                                                                                             \
        ulong v_;                                                                                  \
        asm volatile(op " %0, (%1)" : "=r"(v_) : "r"(p) : "memory");                               \
        v_;                                                                                        \
    })
/* 0 if it has stored. */
#define SC(op, p, v)                                                                               \
    ({                                                                                             \
        ulong v_;                                                                                  \
        asm volatile(op " %0, %2, (%1)" : "=&r"(v_) : "r"(p), "r"(v) : "memory");                  \
        v_;                                                                                        \
    })
#if XLEN == 64
#define D ".d"
#else
#define D ".w" /* the widest that there is */
#endif

/* ---- Counters --------------------------------------------------------------------------------- */

/* Adds `add` steps times by a constrained LR/SC loop, as compilers write it. */
#define LRSC_ADD(size, annotation, p, add, n)                                                      \
    do {                                                                                           \
        ulong n_ = (n), t_, u_;                                                                    \
        asm volatile("1: lr" size annotation " %1, (%3)\n add %1, %1, %4\n"                        \
                     "sc" size annotation " %2, %1, (%3)\n bnez %2, 1b\n"                          \
                     "addi %0, %0, -1\n bnez %0, 1b"                                               \
                     : "+&r"(n_), "=&r"(t_), "=&r"(u_)                                             \
                     : "r"(p), "r"((ulong)(add))                                                   \
                     : "memory");                                                                  \
    } while (0)
#define AMO_ADD(size, annotation, p, add, n)                                                       \
    do {                                                                                           \
        ulong n_ = (n);                                                                            \
        asm volatile("1: amoadd" size annotation " x0, %2, (%1)\n addi %0, %0, -1\n bnez %0, 1b"   \
                     : "+&r"(n_)                                                                   \
                     : "r"(p), "r"((ulong)(add))                                                   \
                     : "memory");                                                                  \
    } while (0)

static void count_work(unsigned hart)
{
    (void)hart;
    volatile u32 *words = (volatile u32 *)shared.guarded;
    volatile ulong *wide = (volatile ulong *)&shared.guarded[4];
    barrier();
    AMO_ADD(".w", "", &words[0], 1, steps);
    barrier();
    AMO_ADD(".w", ".aqrl", &words[1], 3, steps);
    barrier();
    LRSC_ADD(".w", "", &words[2], 1, steps);
    barrier();
    LRSC_ADD(".w", ".aqrl", &words[3], 5, steps);
    barrier();
    AMO_ADD(D, "", &wide[0], 0x10001, steps);
    barrier();
    LRSC_ADD(D, "", &wide[1], 0x10001, steps);
    /* Half of the harts one way, half the other. */
    barrier();
    if (hart & 1) {
        AMO_ADD(".w", "", &words[4], 1, steps);
    } else {
        LRSC_ADD(".w", "", &words[4], 1, steps);
    }
    barrier();
    if (hart & 1) {
        AMO_ADD(D, "", &wide[2], 1, steps);
    } else {
        LRSC_ADD(D, "", &wide[2], 1, steps);
    }
}

static void counters(void)
{
    begin(20000);
    on_harts(count, count_work);
    volatile u32 *words = (volatile u32 *)shared.guarded;
    volatile ulong *wide = (volatile ulong *)&shared.guarded[4];
    u32 total = count * steps;
    CHECK_EQ(words[0], total);
    CHECK_EQ(words[1], total * 3);
    CHECK_EQ(words[2], total);
    CHECK_EQ(words[3], total * 5);
    CHECK_EQ(words[4], total);
    CHECK_EQ(wide[0], (ulong)total * 0x10001);
    CHECK_EQ(wide[1], (ulong)total * 0x10001);
    CHECK_EQ(wide[2], total);
}

/* LR.W and AMO.W on one half of what others change by doublewords. */
static void halves_work(unsigned hart)
{
    barrier();
#if XLEN == 64
    volatile u32 *words = (volatile u32 *)&shared.value;
    switch (hart & 3) {
    case 0:
        LRSC_ADD(".d", "", &shared.value, 0x100000001, steps);
        break;
    case 1:
        LRSC_ADD(".w", "", &words[0], 1, steps);
        LRSC_ADD(".w", "", &words[1], 1, steps);
        break;
    case 2:
        AMO_ADD(".d", "", &shared.value, 0x100000001, steps);
        break;
    default:
        AMO_ADD(".w", "", &words[0], 1, steps);
        AMO_ADD(".w", "", &words[1], 1, steps);
        break;
    }
#else
    (void)hart;
    AMO_ADD(".w", "", &shared.value, 1, steps);
#endif
}

static void halves(void)
{
    begin(10000);
    if (steps > 100000000) { /* no carry from one half to the other */
        steps = 100000000;
    }
    on_harts(count, halves_work);
    CHECK_EQ(shared.value, (IS64 ? 0x100000001 : 1) * (u64)(count * steps));
}

/* Bytes and halfwords by LR/SC on the word around them. A neighbour writes its own byte by plain stores, and reads
 * nothing else there than what it has written: neither an SC nor an AMO may take that back. */
static void masked_work(unsigned hart)
{
    volatile u32 *word = (volatile u32 *)&shared.value;
    volatile u8 *byte = (volatile u8 *)word + 3;
    ulong wrong = 0;
    barrier();
    if (hart == 0) {
        for (unsigned i = 0; i < steps; i++) {
            *byte = (u8)i;
            wrong += *byte != (u8)i;
        }
        *byte = 0x5a;
    } else if (hart == 1) {
        for (unsigned i = 0; i < steps; i++) {
            ulong t, u;
            asm volatile("1: lr.w %0, (%2)\n addi %1, %0, 1\n andi %1, %1, 0xff\n andi %0, %0, -256\n"
                         "or %1, %1, %0\n sc.w %0, %1, (%2)\n bnez %0, 1b"
                         : "=&r"(t), "=&r"(u)
                         : "r"(word)
                         : "memory");
        }
    } else if (hart == 2) {
        AMO_ADD(".w", "", word, 0x100, steps & 0xff); /* no carry into byte 2 */
    } else {
        for (unsigned i = 0; i < steps; i++) {
            AMO("amoxor.w", word, 0x10000);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void masked(void)
{
    begin(40001);
    on_harts(count, masked_work);
    CHECK_EQ(((volatile u32 *)&shared.value)[0],
             0x5a000000 | (count > 1 ? steps & 0xff : 0) | (count > 2 ? (steps & 0xff) << 8 : 0) |
                 ((count - (count > 3 ? 3 : count)) * steps & 1) << 16);
}

/* ---- The other AMOs ----------------------------------------------------------------------------- */

static volatile ulong sums[MAX_HARTS];

static void amos_work(unsigned hart)
{
    volatile u32 *bits = (volatile u32 *)&shared.guarded[0], *most = (volatile u32 *)&shared.guarded[1],
                 *least = (volatile u32 *)&shared.guarded[2];
    volatile ulong *wide = (volatile ulong *)&shared.guarded[3], *token = &shared.other;
    u32 mine = 1u << hart;
    ulong wide_mine = (ulong)1 << (XLEN - 1 - hart), wrong = 0, hold = hart + 1;
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        wrong += AMO("amoor.w", bits, mine) & mine;
        wrong += !(AMO("amoand.w", bits, ~mine) & mine);
        wrong += AMO("amoxor" D, wide, wide_mine) & wide_mine;
        wrong += !(AMO("amoxor" D, wide, wide_mine) & wide_mine);
        u32 value = i * count + hart; /* all different */
        AMO("amomaxu.w", most, value);
        wrong += *most < value;
        AMO("amomin.w", least, -(int)value);
        wrong += (int)*least > -(int)value;
        hold = AMO("amoswap" D, token, hold);
    }
    sums[hart] = hold;
    CHECK_EQ(wrong, 0);
}

static void amos(void)
{
    begin(20000);
    on_harts(count, amos_work);
    ulong sum = shared.other, want = 0;
    for (unsigned h = 0; h < count; h++) {
        sum += sums[h];
        want += h + 1;
    }
    CHECK_EQ(sum, want); /* no token is lost or doubled */
    CHECK_EQ((u32)shared.guarded[0], 0);
    CHECK_EQ((u32)shared.guarded[1], steps * count - 1);
    CHECK_EQ((u32)shared.guarded[2], -(steps * count - 1));
    CHECK_EQ(shared.guarded[3], 0);
}

/* ---- Locks ---------------------------------------------------------------------------------------
 * Each guards data that plain instructions change: eight words that are always equal. */

static ulong guarded_step(void)
{
    ulong wrong = 0;
    u64 first = shared.guarded[0];
    for (unsigned i = 0; i < 8; i++) {
        wrong += shared.guarded[i] != first;
        shared.guarded[i] = first + 1;
    }
    return wrong;
}

static void swap_lock(unsigned hart)
{
    (void)hart;
    ulong t, u;
    asm volatile("1: li %0, 1\n amoswap.w.aq %0, %0, (%2)\n beqz %0, 3f\n"
                 "2: .word 0x0100000f\n lw %1, (%2)\n bnez %1, 2b\n j 1b\n 3:"
                 : "=&r"(t), "=&r"(u)
                 : "r"(&shared.value)
                 : "memory");
}
static void swap_unlock(unsigned hart)
{
    (void)hart;
    asm volatile("amoswap.w.rl x0, x0, (%0)" : : "r"(&shared.value) : "memory");
}

static void lrsc_lock(unsigned hart)
{
    (void)hart;
    ulong t, u;
    asm volatile("1: lr.w.aq %0, (%2)\n bnez %0, 2f\n li %1, 1\n sc.w %0, %1, (%2)\n bnez %0, 1b\n j 3f\n"
                 "2: .word 0x0100000f\n j 1b\n 3:"
                 : "=&r"(t), "=&r"(u)
                 : "r"(&shared.value)
                 : "memory");
}
static void store_unlock(unsigned hart)
{
    (void)hart;
    asm volatile("fence rw, w\n sw x0, (%0)" : : "r"(&shared.value) : "memory");
}

/* Tickets: the next one in the low half, the one being served in the high half. */
static void ticket_lock(unsigned hart)
{
    (void)hart;
    u32 mine = (u32)AMO("amoadd.w", &shared.value, 1) & 0xffff;
    volatile u16 *serving = (volatile u16 *)&shared.value + 1;
    while (*serving != mine) {
        pause();
    }
    asm volatile("fence r, rw" ::: "memory");
}
static void ticket_unlock(unsigned hart)
{
    (void)hart;
    volatile u16 *serving = (volatile u16 *)&shared.value + 1;
    asm volatile("fence rw, w" ::: "memory");
    *serving = (u16)(*serving + 1);
}
/* The low half's carry would reach the other. */
static void ticket_wrap(void)
{
    shared.value = 0;
}

/* Peterson's, of two harts, by loads and stores alone: the fence between store and load is all that holds it. */
static struct {
    volatile u8 wants;
    char pad[63];
} peterson[2];
static volatile u16 turn;

static void peterson_lock(unsigned hart)
{
    peterson[hart].wants = 1;
    asm volatile("fence w, w" ::: "memory");
    turn = (u16)!hart;
    asm volatile("fence w, r" ::: "memory");
    while (peterson[!hart].wants && turn == !hart) {
        pause();
    }
    asm volatile("fence r, rw" ::: "memory");
}
static void peterson_unlock(unsigned hart)
{
    asm volatile("fence rw, w" ::: "memory");
    peterson[hart].wants = 0;
}

static void (*lock_it)(unsigned hart), (*unlock_it)(unsigned hart);

static void lock_work(unsigned hart)
{
    ulong wrong = 0;
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        if (lock_it == ticket_lock && i % 8192 == 8191) { /* 8 harts: 65536 tickets */
            barrier();
            if (hart == 0) {
                ticket_wrap();
            }
            barrier();
        }
        lock_it(hart);
        wrong += guarded_step();
        unlock_it(hart);
    }
    CHECK_EQ(wrong, 0);
}

static void try_lock(unsigned n, void (*lock)(unsigned), void (*unlock)(unsigned), unsigned k)
{
    begin(k);
    lock_it = lock;
    unlock_it = unlock;
    on_harts(n, lock_work);
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(shared.guarded[i], n * steps);
    }
}

static void spin_locks(void)
{
    try_lock(count, swap_lock, swap_unlock, 5000);
    try_lock(count, swap_lock, store_unlock, 5000);
    try_lock(count, lrsc_lock, swap_unlock, 5000);
    try_lock(count, lrsc_lock, store_unlock, 5000);
}

static void ticket_locks(void)
{
    try_lock(count, ticket_lock, ticket_unlock, 300); /* unfair to harts that don't run */
}

static void two_flags_lock(void)
{
    try_lock(2, peterson_lock, peterson_unlock, 5000);
}

/* ---- Lists -----------------------------------------------------------------------------------------
 * A stack of nodes: pushed by LR/SC, taken whole by a swap, or one at a time under a lock. */

typedef struct Node {
    struct Node *volatile next;
    volatile ulong owner, value;
} Node;
enum { NODES = 64 }; /* of each hart */
static Node nodes[MAX_HARTS][NODES];

static void push(volatile ulong *head, Node *node, unsigned hart)
{
    ulong first, failed;
    node->owner = hart;
    node->value = (ulong)node ^ hart;
    asm volatile("1: lr" D " %0, (%2)\n " STR_STORE " %0, 0(%3)\n sc" D ".rl %1, %3, (%2)\n bnez %1, 1b"
                 : "=&r"(first), "=&r"(failed)
                 : "r"(head), "r"(node)
                 : "memory");
}

static void list_work(unsigned hart)
{
    Node *mine[NODES];
    unsigned n = NODES;
    ulong wrong = 0;
    for (unsigned i = 0; i < NODES; i++) {
        mine[i] = &nodes[hart][i];
    }
    u32 seed = hart + 1;
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        for (unsigned k = random_next(&seed) % 8; k && n; k--) {
            push(&shared.value, mine[--n], hart);
        }
        if (random_next(&seed) % 2) {
            ulong first = AMO("amoswap" D ".aq", &shared.value, 0);
            for (Node *node = (Node *)first; node;) {
                Node *next = node->next;
                wrong += node->value != ((ulong)node ^ node->owner);
                node->value = 0;
                if (n < NODES) {
                    mine[n++] = node;
                } else {
                    push(&shared.value, node, hart);
                }
                node = next;
            }
        }
    }
    /* All go back: none may be missing. */
    while (n) {
        push(&shared.value, mine[--n], hart);
    }
    CHECK_EQ(wrong, 0);
}

static void lists(void)
{
    begin(5000);
    on_harts(count, list_work);
    unsigned n = 0;
    for (Node *node = (Node *)shared.value; node && n <= MAX_HARTS * NODES; node = node->next) {
        n++;
    }
    CHECK_EQ(n, count * NODES);
}

/* ---- What SC has to notice -------------------------------------------------------------------------- */

enum { REMOTE_SB, REMOTE_SH, REMOTE_SW, REMOTE_SWAP, REMOTE_ADD, REMOTE_SC, REMOTE_SAME, REMOTE_WAYS };
static volatile u32 asked, answered;
static ulong same_value;

static void remote_write(unsigned way, volatile u32 *word)
{
    ulong failed;
    switch (way) {
    case REMOTE_SB:
        ((volatile u8 *)word)[1] ^= 0x40;
        break;
    case REMOTE_SH:
        ((volatile u16 *)word)[1] ^= 0x4000;
        break;
    case REMOTE_SW:
        *word += 1;
        break;
    case REMOTE_SWAP:
        AMO("amoswap.w", word, *word + 1);
        break;
    case REMOTE_ADD:
        AMO("amoadd.w", word, 5);
        break;
    case REMOTE_SC:
        do {
            failed = SC("sc.w", word, LR("lr.w", word) + 7);
        } while (failed);
        break;
    default:
        *word = *word; /* the same value */
        break;
    }
}

static void reservation_work(unsigned hart)
{
    volatile u32 *word = (volatile u32 *)&shared.value;
    ulong wrong = 0, kept = 0;
    for (unsigned i = 1; i <= steps; i++) {
        unsigned way = i % REMOTE_WAYS;
        if (hart == 0) {
            ulong failed;
            u32 seen;
            asm volatile("lr.w %0, (%1)" : "=r"(seen) : "r"(word) : "memory");
            RELEASE(&asked, i);
            while (ACQUIRE(&answered) != i) {
            }
            failed = SC("sc.w", word, 0x12345678);
            if (way == REMOTE_SAME) {
                kept += !failed;
            } else {
                wrong += !failed || *word == seen || *word == 0x12345678;
            }
        } else {
            UNTIL(ACQUIRE(&asked) == i);
            remote_write(way, word);
            RELEASE(&answered, i);
        }
    }
    CHECK_EQ(wrong, 0);
    if (hart == 0) {
        same_value = kept;
    }
}

static void reservations(void)
{
    begin(2000);
    asked = answered = 0;
    on_harts(2, reservation_work);
    put_text("SC after a remote store of the same value has stored ");
    put_number((unsigned)same_value);
    put_text(" times\n");
}

/* A reservation does not outlive an SC, and one at another address does not count. */
static void used_up(void)
{
    begin(1);
    volatile u32 *word = (volatile u32 *)&shared.value, *far = (volatile u32 *)&shared.guarded;
    for (unsigned i = 0; i < 100; i++) {
        LR("lr.w", word);
        SC("sc.w", word, 1);
        CHECK(SC("sc.w", word, 2));
        LR("lr.w", word);
        CHECK(SC("sc.w", far, 2)); /* another reservation set, here as on all harts there are */
        CHECK_EQ(*far, 0);
        CHECK(SC("sc.w", word, 2));
        CHECK(*word < 2);
    }
}

/* ---- Zacas ---------------------------------------------------------------------------------------- */

SNIPPET(zacas_probe, ".word 0x2805252f\n ecall"); /* amocas.w a0, x0, (a0) */

#define AMOCAS_W 0x28f6252f /* amocas.w a0, a5, (a2) */
#define AMOCAS_D 0x28f6352f
#define AMOCAS_Q 0x28e6452f /* amocas.q a0/a1, a4/a5, (a2) */

/* Two values, the second always the other one's complement, changed as one. */
static void cas_pair_work(unsigned hart)
{
    (void)hart;
    ulong wrong = 0;
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        register ulong low asm("a0") = 0, high asm("a1") = 0;
        register volatile u64 *at asm("a2") = &shared.guarded[0];
        register ulong new_low asm("a4"), new_high asm("a5");
        for (;;) {
            ulong was_low = low, was_high = high;
            new_low = low + 1;
            new_high = ~new_low;
#if XLEN == 64
            asm volatile(".word " STR(AMOCAS_Q) : "+r"(low), "+r"(high) : "r"(at), "r"(new_low), "r"(new_high) : "memory");
#else
            asm volatile(".word 0x28e6352f" : "+r"(low), "+r"(high) : "r"(at), "r"(new_low), "r"(new_high) : "memory");
#endif
            wrong += low != ~high && (low | high);
            if (low == was_low && high == was_high) {
                break;
            }
        }
    }
    CHECK_EQ(wrong, 0);
}

static void cas_work(unsigned hart)
{
    (void)hart;
    volatile u32 *word = (volatile u32 *)&shared.guarded[4];
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        for (;;) {
            ulong was = (ulong)(long)(int)*word;
            register ulong seen asm("a0") = was;
            register volatile u32 *at asm("a2") = word;
            register ulong next asm("a5") = was + 1;
            asm volatile(".word " STR(AMOCAS_W) : "+r"(seen) : "r"(at), "r"(next) : "memory");
            if (seen == was) {
                break;
            }
        }
#if XLEN == 64
        for (;;) {
            ulong was = (ulong)shared.guarded[5];
            register ulong seen asm("a0") = was;
            register volatile u64 *at asm("a2") = &shared.guarded[5];
            register ulong next asm("a5") = was + 0x100000001;
            asm volatile(".word " STR(AMOCAS_D) : "+r"(seen) : "r"(at), "r"(next) : "memory");
            if (seen == was) {
                break;
            }
        }
#endif
    }
}

static void compare_and_swap(void)
{
    begin(5000);
    if (run(PRIV_M, zacas_probe, (ulong)&shared.value, 0).cause == CAUSE_ILLEGAL) {
        put_text("no Zacas\n");
        return;
    }
    on_harts(count, cas_pair_work);
#if XLEN == 64
    CHECK_EQ(shared.guarded[0], count * steps);
    CHECK_EQ(shared.guarded[1], ~(u64)(count * steps));
#else
    CHECK_EQ(shared.guarded[0], count * steps | (u64)~(count * steps) << 32);
#endif
    on_harts(count, cas_work);
    CHECK_EQ((u32)shared.guarded[4], count * steps);
#if XLEN == 64
    CHECK_EQ(shared.guarded[5], 0x100000001 * (u64)(count * steps));
#endif
}

int main(void)
{
    harts_start(2);
    count = harts;
    RUN(counters);
    RUN(halves);
    RUN(masked);
    RUN(amos);
    RUN(spin_locks);
    RUN(ticket_locks);
    RUN(two_flags_lock);
    RUN(lists);
    RUN(reservations);
    RUN(used_up);
    RUN(compare_and_swap);
    return 0;
}
