// A compiler at work: writes one function after the other into a large buffer, calls each a few times, and starts
// over when the buffer is full.
#include "emit.h"

enum { SIZE = 1 << 20, LONGEST = 1024 };
static u8 *buffer;

static void setup(void)
{
    buffer = code_buffer(SIZE);
}

static u64 run(void)
{
    u64 sum = 1;
    u8 *free_at = buffer;
    for (u32 i = 0; i < 30000; i++) {
        if (free_at + LONGEST > buffer + SIZE) {
            free_at = buffer;
        }
        Emitter e = {free_at};
        emit_start(&e);
        for (u32 left = 10 + next_random() % 30; left > 0; left--) {
            emit_any(&e, next_random());
        }
        emit_return(&e);
        Code *function = emit_end(&e, free_at);
        for (u32 calls = 5; calls > 0; calls--) {
            sum = sum * 3 + function(sum);
        }
        free_at += (size_t)(e.at - free_at + 15) & ~(size_t)15;
    }
    return sum;
}
