/*
 * The machine is reset, and switched off, by a hart other than 0 while the rest spin, sleep, store and interrupt each
 * other. The program starts over again, some times, and finds its count behind its image.
 */
#include "guest.h"

#define NOTE ((volatile u32 *)(image_end + (1 << 20)))

static void spin(volatile ulong *data)
{
    for (ulong i = 0;; i++) {
        *data += i;
    }
}

static void work(unsigned hart)
{
    static volatile ulong data[MAX_HARTS];
    unsigned boot = NOTE[0];
    /* What the last boot has left on may not be on. */
    CHECK_EQ(csr_read(CSR_MSTATUS) & MSTATUS_MPRV, 0);
    csr_set(CSR_MSTATUS, MSTATUS_MPRV | MSTATUS_MPP); /* for M mode it makes no difference */
    barrier();
    if (hart == 1) {
        delay(100000);
        if (boot == rounds(6)) {
            finish();
        }
        NOTE[0] = boot + 1;
        fence_rw_rw();
        *FINISHER = 0x7777;
        spin(&data[hart]);
    }
    switch ((hart + boot) % 3) {
    case 0:
        spin(&data[hart]);
        break;
    case 1:
        for (;;) {
            wait_for_interrupt();
        }
    default:
        for (;;) {
            CLINT_MSIP[hart] = 1;
            CLINT_MSIP[hart] = 0;
            set_mtimecmp_of(hart, mtime() + 100);
        }
    }
}

static void stops(void)
{
    if (NOTE[1] != 0x5ea1ed) {
        NOTE[1] = 0x5ea1ed;
        NOTE[0] = 0;
    }
    CHECK(NOTE[0] <= rounds(6));
    on_harts(harts, work);
}

int main(void)
{
    harts_start(2);
    RUN(stops);
    return 0;
}
