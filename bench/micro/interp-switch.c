// An interpreter for a small stack machine, its operations chosen by a switch: one much-used indirect jump.
#include "bench.h"

enum { PUSH, LOAD, STORE, ADD, SUB, XOR, SHIFT, LESS, JUMP_IF, JUMP, END };

// sum = x = 1; for (i = 0; i < limit; i++) { x = (x ^ x << 7) - i; sum = sum + x; }
static u32 program[] = {
    PUSH, 0, STORE, 0, PUSH, 1, STORE, 1, PUSH, 1, STORE, 2,
    LOAD, 1, LOAD, 1, SHIFT, 7, XOR, LOAD, 0, SUB, STORE, 1,
    LOAD, 2, LOAD, 1, ADD, STORE, 2,
    LOAD, 0, PUSH, 1, ADD, STORE, 0,
    LOAD, 0, LOAD, 3, LESS, JUMP_IF, 12,
    END,
};
static u64 variables[4];

static void setup(void)
{
    variables[3] = 5000000;
}

static u64 run(void)
{
    u64 stack[16], *top = stack;
    const u32 *pc = program;

    for (;;) {
        switch (*pc++) {
        case PUSH: *top++ = *pc++; break;
        case LOAD: *top++ = variables[*pc++]; break;
        case STORE: variables[*pc++] = *--top; break;
        case ADD: top--; top[-1] += top[0]; break;
        case SUB: top--; top[-1] -= top[0]; break;
        case XOR: top--; top[-1] ^= top[0]; break;
        case SHIFT: top[-1] <<= *pc++; break;
        case LESS: top--; top[-1] = top[-1] < top[0]; break;
        case JUMP_IF: pc = *--top ? program + *pc : pc + 1; break;
        case JUMP: pc = program + *pc; break;
        default: return variables[2];
        }
    }
}
