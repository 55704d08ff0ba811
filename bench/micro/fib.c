// Fibonacci by plain recursion: calls, returns and the stack.
#include "bench.h"

static void setup(void)
{
}

static __attribute__((noinline, optimize("no-optimize-sibling-calls", "no-ipa-cp", "no-inline"))) u64 fib(u32 n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static u64 run(void)
{
    return fib(37);
}
