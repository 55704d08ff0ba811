// C++ exceptions: thrown through a few frames that have destructors, caught by type. Most of the time goes to the
// run-time library's unwinder, which interprets tables.
#include "bench.h"

namespace {

struct Small {
    u32 value;
};
struct Other {
    u64 value;
};
u64 destroyed;

struct Guard {
    u32 id;
    explicit Guard(u32 n) : id(n) {}
    ~Guard() { destroyed = destroyed * 3 + id; }
};

__attribute__((noinline)) u64 descend(u32 depth, u32 n)
{
    Guard guard(depth);
    if (depth == 0) {
        if (n % 3 == 0) {
            throw Small{n};
        }
        if (n % 3 == 1) {
            throw Other{n * 7ull};
        }
        return n;
    }
    return descend(depth - 1, n) + 1;
}

}

static void setup(void)
{
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 n = 0; n < 40000; n++) {
        try {
            sum += descend(n % 5, n);
        } catch (const Small &small) {
            sum = sum * 3 + small.value;
        } catch (const Other &other) {
            sum ^= other.value;
        }
    }
    return sum + destroyed;
}
