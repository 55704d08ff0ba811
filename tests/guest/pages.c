/*
 * Code on more pages than the translator keeps tables for (32768), so that it has to forget them all: on the way to
 * an instruction, and on the way to the second half of one.
 */
#include "guest.h"

enum { PAGES = 34000 };
#define CODE 0x80800000

static u16 *page(unsigned i)
{
    return (u16 *)(CODE + (ulong)i * PAGE);
}

static void write_code(bool straddling)
{
    for (unsigned i = 0; i < PAGES; i++) {
        u32 insn = insn_li_a0((int)(i & 1023));
        u16 *p = straddling ? page(i) + PAGE / 2 - 1 : page(i);
        p[0] = (u16)insn;
        p[1] = insn >> 16;
        p[2] = 0x8082; /* ret */
    }
    fence_i();
}

static void call_all(unsigned first, unsigned step, bool straddling)
{
    ulong wrong = 0;
    for (unsigned i = first; i < PAGES; i += step) {
        u16 *p = straddling ? page(i) + PAGE / 2 - 1 : page(i);
        wrong += ((ulong(*)(void))p)() != (i & 1023);
    }
    CHECK_EQ(wrong, 0);
}

static void many_pages(void)
{
    write_code(false);
    for (unsigned again = 0; again < 3; again++) {
        call_all(0, 1, false);
    }
}

static void many_straddles(void)
{
    write_code(true);
    for (unsigned again = 0; again < 2; again++) {
        call_all(0, 1, true);
        call_all(0, 2, true);
        call_all(1, 2, true);
    }
}

int main(void)
{
    RUN(many_pages);
    RUN(many_straddles);
    return 0;
}
