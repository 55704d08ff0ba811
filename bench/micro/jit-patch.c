// Changes one operation within each of many functions on the same pages, as an inline cache does, and calls
// functions that were and were not changed.
#include "emit.h"

enum { FUNCTIONS = 64, SPACE = 128 };
static u8 *buffer, *patch[FUNCTIONS];

static void setup(void)
{
    buffer = code_buffer(FUNCTIONS * SPACE);
    for (u32 i = 0; i < FUNCTIONS; i++) {
        Emitter e = {buffer + i * SPACE};
        emit_start(&e);
        emit_add(&e, i);
        patch[i] = e.at;
        emit_xor(&e, i * 3);
        emit_add_y(&e);
        emit_mul_y(&e);
        emit_return(&e);
        emit_end(&e, buffer + i * SPACE);
    }
}

static u64 run(void)
{
    u64 sum = 1;
    for (u32 i = 0; i < 100000; i++) {
        u64 choice = next_random();
        u8 *at = patch[choice % FUNCTIONS];
        Emitter e = {at};
        emit_xor(&e, choice >> 8 & 0x7ff);
        emit_end(&e, at);
        for (u32 k = 0; k < 16; k++) {
            Code *function = (Code *)(void *)(buffer + (choice + k * k) % FUNCTIONS * SPACE);
            sum = sum * 3 + function(sum);
        }
    }
    return sum;
}
