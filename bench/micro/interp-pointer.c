// An interpreter whose code is an array of function pointers: an indirect call and a return for each operation.
#include "bench.h"

typedef struct Machine Machine;
typedef void Operation(Machine *m, u64 operand);
typedef struct {
    Operation *operation;
    u64 operand;
} Step;
struct Machine {
    u64 x[4];
    const Step *next;
    const Step *code;
};

static void op_add(Machine *m, u64 r) { m->x[0] += m->x[r]; }
static void op_xor(Machine *m, u64 r) { m->x[0] ^= m->x[r]; }
static void op_shift(Machine *m, u64 n) { m->x[0] = m->x[0] << n | m->x[0] >> (64 - n); }
static void op_store(Machine *m, u64 r) { m->x[r] = m->x[0]; }
static void op_count(Machine *m, u64 r) { m->x[r]--; }
static void op_loop(Machine *m, u64 r)
{
    m->next = m->x[r] ? m->code : NULL;
}

static Step code[] = {
    {op_add, 1}, {op_shift, 13}, {op_xor, 2}, {op_store, 1}, {op_add, 3}, {op_shift, 7}, {op_store, 2},
    {op_count, 3}, {op_loop, 3},
};
static Machine machine;

static void setup(void)
{
    machine = (Machine){.x = {1, 2, 3, 5000000}, .next = code, .code = code};
}

static u64 run(void)
{
    Machine *m = &machine;
    while (m->next) {
        const Step *step = m->next++;
        step->operation(m, step->operand);
    }
    return m->x[0] ^ m->x[1];
}
