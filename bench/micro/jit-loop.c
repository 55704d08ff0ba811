// Compiles loops of a few operations, as a JIT compiler does with hot code, and runs each for a while.
#include "emit.h"

enum { SIZE = 64 << 10, LONGEST = 512 };
static u8 *buffer;

static void setup(void)
{
    buffer = code_buffer(SIZE);
}

static u64 run(void)
{
    u64 sum = 1;
    u8 *free_at = buffer;
    for (u32 i = 0; i < 16000; i++) {
        if (free_at + LONGEST > buffer + SIZE) {
            free_at = buffer;
        }
        Emitter e = {free_at};
        emit_start(&e);
        emit_set_y(&e, 300);
        u8 *label = e.at;
        for (u32 left = 4 + next_random() % 8; left > 0; left--) {
            u64 random = next_random();
            emit_any(&e, (random & 7) == 3 ? random ^ 1 : random);     // the loop's counter stays in y
        }
        emit_loop(&e, label);
        emit_return(&e);
        sum = sum * 3 + emit_end(&e, free_at)(sum);
        free_at += (size_t)(e.at - free_at + 15) & ~(size_t)15;
    }
    return sum;
}
