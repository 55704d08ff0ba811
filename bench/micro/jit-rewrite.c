// Writes a small function over the one before it, in the same place, and runs it once.
#include "emit.h"

static u8 *buffer;

static void setup(void)
{
    buffer = code_buffer(4096);
}

static u64 run(void)
{
    u64 sum = 1;
    for (u32 i = 0; i < 80000; i++) {
        Emitter e = {buffer};
        emit_start(&e);
        for (u32 left = 4 + i % 8; left > 0; left--) {
            emit_any(&e, next_random());
        }
        emit_return(&e);
        sum = sum * 3 + emit_end(&e, buffer)(sum | 1);
    }
    return sum;
}
