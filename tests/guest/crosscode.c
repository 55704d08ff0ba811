/*
 * Code that one hart writes and others run: rewritten functions behind fence.i, jumps patched under running callers,
 * data beside code, everybody translating at once, more code than a small code cache holds, with calls in
 * progress, and code on more pages than the translator keeps tables for.
 */
#include "guest.h"

static unsigned count; /* of harts */
static unsigned steps;

static u32 addi_a0(int n)
{
    return (u32)n << 20 | 10 << 15 | 10 << 7 | 0x13;
}

/* jal x0, offset */
static u32 insn_j(int offset)
{
    u32 o = (u32)offset;
    return (o >> 20 & 1) << 31 | (o >> 1 & 0x3ff) << 21 | (o >> 11 & 1) << 20 |
           (o >> 12 & 0xff) << 12 | 0x6f;
}

static u32 insn_jal_ra(int offset)
{
    return insn_j(offset) | 1 << 7;
}

typedef ulong Function(ulong a0);

static ulong call(volatile u32 *code, ulong a0)
{
    return ((Function *)(ulong)code)(a0);
}

/* ---- Rewritten functions -------------------------------------------------------------------------
 * A function is a chain of pieces, each `a0 += n; j next`, in an order that changes from one version to the next, with
 * numbers of which the callers know the sum. The writer tells the callers by a word or by a software interrupt; they fence.i,
 * call, answer. */

enum { PIECES = 40, PIECE = 5 }; /* words */
static volatile u32 *area; /* where pieces lie: some across pages */
static volatile ulong expected;
static volatile u32 version, answers, stop;
static bool by_interrupt;
static u32 seed = 1;

static volatile u32 *piece_at(unsigned i, unsigned spread)
{
    return area + i * spread;
}

/* Everything but the first piece's place changes. */
static ulong write_function(unsigned spread)
{
    u8 order[PIECES];
    ulong sum = 0;
    for (unsigned i = 0; i < PIECES; i++) {
        order[i] = (u8)i;
    }
    for (unsigned i = PIECES - 1; i > 1; i--) {
        unsigned k = 1 + random_next(&seed) % i;
        u8 o = order[i];
        order[i] = order[k];
        order[k] = o;
    }
    unsigned used = 1 + random_next(&seed) % PIECES;
    for (unsigned i = 0; i < used; i++) {
        volatile u32 *p = piece_at(order[i], spread);
        unsigned adds = random_next(&seed) % (PIECE - 1);
        for (unsigned k = 0; k < adds; k++) {
            int n = (int)(random_next(&seed) % 1024);
            sum += (ulong)n;
            *p++ = addi_a0(n);
        }
        *p = i == used - 1 ? RET : insn_j((int)((char *)piece_at(order[i + 1], spread) - (char *)p));
    }
    return sum;
}

static void function_work(unsigned hart)
{
    static const unsigned spreads[] = {PIECE, 24, PAGE / 4 - 2, PAGE / 4 + 1};
    ulong wrong = 0;
    csr_write(CSR_MIE, 1 << IRQ_MSI);
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        if (hart == 0) {
            expected = write_function(spreads[i / 4 % ARRAY_LEN(spreads)]);
            answers = 0;
            fence_rw_rw();
            version = i;
            if (by_interrupt) {
                fence_rw_rw();
                for (unsigned h = 1; h < count; h++) {
                    CLINT_MSIP[h] = 1;
                }
            }
            fence_i(); /* it calls the function itself, too */
            wrong += call(area, 0) != expected;
            UNTIL(ACQUIRE(&answers) == count - 1);
        } else {
            if (by_interrupt) {
                while (!(csr_read(CSR_MIP) & 1 << IRQ_MSI)) {
                    wait_for_interrupt();
                }
                CLINT_MSIP[hart] = 0;
            } else {
                UNTIL(version == i);
            }
            fence_i();
            fence_rw_rw();
            wrong += call(area, i) != expected + i;
            wrong += call(area, i) != expected + i;
            wrong += version != i;
            ADD(&answers, 1);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void rewritten(void)
{
    area = (volatile u32 *)(0x80800000 + 40);
    steps = rounds(50);
    for (unsigned way = 0; way < 2; way++) {
        by_interrupt = way;
        version = 0;
        on_harts(count, function_work);
    }
}

/* ---- A patched jump --------------------------------------------------------------------------------
 * One aligned instruction is switched between a nop and a jump while others call the function all the time: they see
 * the one or the other, and after they have been asked to fence.i, the new one only. */

static volatile u32 asked, patched_to;

static void patch_work(unsigned hart)
{
    volatile u32 *spot = area + PAGE / 4 - 1; /* at the end of a page */
    ulong wrong = 0, calls = 0;
    barrier();
    if (hart == 0) {
        for (unsigned i = 1; i <= steps; i++) {
            *spot = i & 1 ? insn_j(12) : NOP;
            if (i % 4 >= 2) {
                delay(random_next(&seed) % 1024);
                continue;
            }
            patched_to = i & 1;
            answers = 0;
            RELEASE(&asked, i);
            UNTIL(ACQUIRE(&answers) == count - 1);
        }
        RELEASE(&stop, 1);
    } else {
        for (u32 seen = 0, now; !ACQUIRE(&stop); calls++) {
            if ((now = ACQUIRE(&asked)) != seen) {
                fence_i();
                ulong got = call(area, 0);
                wrong += got != (patched_to ? 102 : 112);
                seen = now;
                ADD(&answers, 1);
            } else {
                ulong got = call(area, 0);
                wrong += got != 102 && got != 112;
            }
        }
        CHECK(calls > 0);
    }
    CHECK_EQ(wrong, 0);
}

static void patched(void)
{
    area = (volatile u32 *)0x80900000;
    volatile u32 *p = area;
    *p++ = insn_j(PAGE - 8);
    p = area + PAGE / 4 - 2;
    *p++ = addi_a0(100);
    *p++ = NOP; /* the spot */
    *p++ = addi_a0(5);
    *p++ = addi_a0(5);
    *p++ = addi_a0(2);
    *p++ = RET;
    stop = asked = 0;
    fence_i();
    steps = rounds(100);
    on_harts(count, patch_work);
}

/* ---- Data beside code ----------------------------------------------------------------------------
 * One hart (then two) writes data into a page whose code the others run without end. */

enum { COUNTERS = 32 };

static void beside_work(unsigned hart)
{
    volatile ulong *data = (volatile ulong *)(area + PAGE / 8);
    ulong wrong = 0;
    barrier();
    if (hart == 0) {
        for (unsigned i = 1; i <= steps; i++) {
            for (unsigned k = 0; k < COUNTERS; k++) {
                data[k] = i;
            }
            wrong += data[i % COUNTERS] != i;
            if (i % 64 == 0) {
                delay(2000);
            }
        }
        RELEASE(&stop, 1);
    } else {
        ulong last = 0;
        u32 state = hart;
        do {
            unsigned f = random_next(&state) % 8;
            wrong += call(area + f * 16, 3) != 3 + 5 * f + 6;
            ulong first = data[COUNTERS - 1];
            fence_rw_rw();
            ulong second = data[0];
            wrong += first < last || second < first;
            last = first;
            if (hart == 2) { /* it writes, too */
                data[COUNTERS] = last;
                wrong += data[COUNTERS] != last;
            }
        } while (!ACQUIRE(&stop));
    }
    CHECK_EQ(wrong, 0);
}

static void data_beside_code(void)
{
    area = (volatile u32 *)0x80910000;
    for (unsigned f = 0; f < 8; f++) {
        volatile u32 *p = area + f * 16;
        for (unsigned k = 0; k < f; k++) {
            *p++ = addi_a0(5);
        }
        *p++ = addi_a0(6);
        *p++ = RET;
    }
    stop = 0;
    fence_i();
    steps = rounds(1500);
    on_harts(count, beside_work);
    volatile ulong *data = (volatile ulong *)(area + PAGE / 8);
    for (unsigned k = 0; k < COUNTERS; k++) {
        CHECK_EQ(data[k], steps);
    }
}

/* ---- Code written on each hart for itself --------------------------------------------------------- */

static void own_work(unsigned hart)
{
    volatile u32 *own = (volatile u32 *)(ulong)(0x80920000 + hart * PAGE); /* neighbours' pages are neighbours */
    ulong wrong = 0;
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        unsigned at = i % 7 * 100;
        own[at] = addi_a0((int)(i % 2000));
        own[at + 1] = addi_a0((int)hart);
        own[at + 2] = RET;
        fence_i();
        wrong += call(own + at, 1) != 1 + i % 2000 + hart;
    }
    CHECK_EQ(wrong, 0);
}

static void own_pages(void)
{
    steps = rounds(1000);
    on_harts(count, own_work);
}

/* ---- All at once ---------------------------------------------------------------------------------
 * Fresh functions, called by all harts from the same moment on: forwards, backwards, at random. */

enum { FRESH = 400, FRESH_WORDS = 40 };

static void fresh_work(unsigned hart)
{
    ulong wrong = 0;
    u32 state = hart + 77;
    for (unsigned i = 0; i < steps; i++) {
        if (hart == 0) {
            for (unsigned f = 0; f < FRESH; f++) {
                volatile u32 *p = area + f * FRESH_WORDS;
                for (unsigned k = 0; k < FRESH_WORDS - 2; k++) {
                    p[k] = addi_a0((int)(f + k + i) & 15);
                }
                p[FRESH_WORDS - 2] = addi_a0((int)(f + i) & 1023);
                p[FRESH_WORDS - 1] = RET;
            }
        }
        barrier();
        fence_i();
        barrier();
        for (unsigned f = 0; f < FRESH; f++) {
            unsigned which = hart % 3 == 0 ? f : hart % 3 == 1 ? FRESH - 1 - f : random_next(&state) % FRESH;
            ulong want = (which + i) & 1023;
            for (unsigned k = 0; k < FRESH_WORDS - 2; k++) {
                want += (which + k + i) & 15;
            }
            wrong += call(area + which * FRESH_WORDS, 0) != want;
        }
        barrier();
    }
    CHECK_EQ(wrong, 0);
}

static void all_at_once(void)
{
    area = (volatile u32 *)0x80a00000;
    steps = rounds(4);
    on_harts(count, fresh_work);
}

/* ---- Deep calls under eviction --------------------------------------------------------------------
 * Half of the harts are in recursion over many functions, and return through them, while the others run through
 * more code than a small code cache holds. */

enum { DEEP = 600, DEEP_WORDS = 16, MANY = 4000, MANY_WORDS = 40 };

static void write_deep(void)
{
    /* f(a0): sp -= 16; save ra; a0 += n; call the next; a0 += 1; restore; return. The last one just returns. */
    for (unsigned f = 0; f < DEEP; f++) {
        volatile u32 *p = area + f * DEEP_WORDS;
        *p++ = 0xff010113;                        /* addi sp, sp, -16 */
        *p++ = IS64 ? 0x00113023 : 0x00112023;    /* sd/sw ra, 0(sp) */
        *p++ = addi_a0((int)(f % 100));
        if (f < DEEP - 1) {
            *p = insn_jal_ra((int)((char *)(area + (f + 1) * DEEP_WORDS) - (char *)p));
            p++;
        }
        *p++ = addi_a0(1);
        *p++ = IS64 ? 0x00013083 : 0x00012083;    /* ld/lw ra, 0(sp) */
        *p++ = 0x01010113;                        /* addi sp, sp, 16 */
        *p++ = RET;
    }
}

static void deep_work(unsigned hart)
{
    volatile u32 *many = (volatile u32 *)0x80c00000;
    ulong wrong = 0;
    barrier();
    if (hart % 2 == 0) {
        ulong want = DEEP;
        for (unsigned f = 0; f < DEEP; f++) {
            want += f % 100;
        }
        while (!ACQUIRE(&stop)) {
            wrong += call(area, 7) != want + 7;
            /* From the middle, too. */
            wrong += call(area + (DEEP - 2) * DEEP_WORDS, 0) != 2 + (DEEP - 2) % 100 + (DEEP - 1) % 100;
        }
    } else {
        for (unsigned i = 0; i < steps; i++) {
            for (unsigned f = 0; f < MANY; f++) {
                wrong += call(many + f * MANY_WORDS, i) != i + MANY_WORDS - 1 + f % 16;
            }
        }
        if (ADD(&answers, 1) == count / 2 - 1) { /* the last of the odd ones */
            RELEASE(&stop, 1);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void deep_calls(void)
{
    area = (volatile u32 *)0x80b00000;
    volatile u32 *many = (volatile u32 *)0x80c00000;
    write_deep();
    for (unsigned f = 0; f < MANY; f++) {
        for (unsigned k = 0; k < MANY_WORDS - 1; k++) {
            many[f * MANY_WORDS + k] = addi_a0(k ? 1 : (int)(f % 16) + 1);
        }
        many[f * MANY_WORDS + MANY_WORDS - 1] = RET;
    }
    fence_i();
    stop = answers = 0;
    steps = rounds(4);
    on_harts(count, deep_work);
}

/* ---- A page handed to and fro ---------------------------------------------------------------------
 * One frame is data for hart 0 and code for hart 1 by turns. */

static void handed_work(unsigned hart)
{
    ulong wrong = 0;
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        if (hart == 0) {
            UNTIL(ACQUIRE(&answers) == i - 1);
            for (unsigned k = 0; k < 64; k++) {
                area[k] = addi_a0((int)(i % 32));
            }
            area[64] = RET;
            RELEASE(&version, i);
        } else {
            UNTIL(ACQUIRE(&version) == i);
            fence_i();
            wrong += call(area, 0) != 64 * (i % 32);
            area[0] = i;
            wrong += area[0] != i;
            RELEASE(&answers, i);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void handed(void)
{
    area = (volatile u32 *)0x80930000;
    version = answers = 0;
    steps = rounds(1000);
    on_harts(2, handed_work);
}

/* ---- More pages than there are tables for ------------------------------------------------------------
 * See pages.c. One hart's translation makes the translator forget what the others are running. */

enum { PAGES = 34000 };

static volatile u16 *page_code(unsigned i)
{
    volatile u16 *page = (volatile u16 *)(0x80800000 + (ulong)i * PAGE);
    return i & 1 ? page + PAGE / 2 - 1 : page + 8; /* every other one straddles */
}

static void pages_work(unsigned hart)
{
    ulong wrong = 0;
    barrier();
    for (unsigned again = 0; again < steps; again++) {
        for (unsigned k = 0; k < PAGES; k++) {
            unsigned i = hart & 1 ? PAGES - 1 - k : k;
            wrong += call((volatile u32 *)(ulong)page_code(i), 0) != (i & 1023);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void many_pages(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        u32 insn = insn_li_a0((int)(i & 1023));
        volatile u16 *p = page_code(i);
        p[0] = (u16)insn;
        p[1] = insn >> 16;
        p[2] = 0x8082; /* ret */
    }
    fence_i();
    steps = rounds(1);
    on_harts(count, pages_work);
}

int main(void)
{
    harts_start(2);
    count = harts;
    RUN(rewritten);
    RUN(patched);
    RUN(data_beside_code);
    RUN(own_pages);
    RUN(all_at_once);
    RUN(deep_calls);
    RUN(handed);
    RUN(many_pages);
    return 0;
}
