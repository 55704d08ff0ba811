/*
 * Physical memory protection (privileged spec, chapter "Machine-Level ISA", section "Physical
 * Memory Protection"): the lowest-numbered entry that matches any byte of an access decides, and it
 * has to match all of them. Entries come decoded, see regime.h.
 *
 * A page walk asks several times, and nearly always about the same stretch of RAM: the stretch of
 * addresses around the last one that are decided by the same entry is remembered.
 */
#include "softmmu/internal.h"

u8 pmp_look_up(Pmp *pmp, u64 pa, u64 size, u8 priv, bool *partial)
{
    const PmpState *s = &pmp->state;
    pmp->first = 0;
    pmp->last = ~(u64)0;
    pmp->perms_m = s->default_m;
    pmp->perms_su = s->default_su;
    for (unsigned i = 0; i < s->count; i++) {
        const PmpRange *e = &s->range[i];
        if (e->first > e->last) {
            continue;
        }
        if (e->first > pa) {
            pmp->last = MIN(pmp->last, e->first - 1);
        } else if (e->last < pa) {
            pmp->first = MAX(pmp->first, e->last + 1);
        } else {
            pmp->first = MAX(pmp->first, e->first);
            pmp->last = MIN(pmp->last, e->last);
            pmp->perms_m = e->perms_m;
            pmp->perms_su = e->perms_su;
            break;
        }
    }
    /* What begins after the stretch belongs to an entry that does not match pa, or what ends with
     * it to one that does: either way the entry that decides does not match all bytes. */
    *partial = pa + (size - 1) > pmp->last;
    return *partial ? 0 : priv == PRIV_M ? pmp->perms_m : pmp->perms_su;
}

bool pmp_equal(const PmpState *a, const PmpState *b)
{
    if (a->count != b->count || a->default_m != b->default_m || a->default_su != b->default_su) {
        return false;
    }
    for (unsigned i = 0; i < a->count; i++) {
        const PmpRange *x = &a->range[i], *y = &b->range[i];
        if (x->first != y->first || x->last != y->last || x->perms_m != y->perms_m ||
            x->perms_su != y->perms_su) {
            return false;
        }
    }
    return true;
}
