/*
 * HTIF. The page is one array of stored 64-bit registers; writes to the two words act. A command
 * that the console does not take at once stays in tohost (guests wait until that is zero) and is
 * tried again when the console has room. See htif.h.
 */
#include "devices/htif.h"

#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"

enum {
    WORDS = HTIF_PAGE_SIZE / 8,
    ANSWERS = 16,
    SYS_WRITE = 64,
    SYS_EXIT = 93,
    WRITE_MAX = 1 << 20, /* bytes of one write call; more is a short write */
};

typedef struct Htif {
    Device dev;
    HtifConfig config;
    u64 page[WORDS];
    u32 tohost, fromhost;
    u8 tohost_halves, fromhost_halves; /* written since the last whole word: 1 low, 2 high */
    u8 busy;                           /* tohost holds a command that waits for the console */
    u64 progress;                      /* bytes of a waiting write call that are out already */
    u64 reading;                       /* a read command that waits for a byte; 0: none */
    u64 answers[ANSWERS];              /* for fromhost */
    u8 answer_head, answer_count;
} Htif;

static u64 *word(Htif *h, u32 offset)
{
    return &h->page[offset / 8];
}

/* ---- Answers -----------------------------------------------------------------------------------
 */

static void deliver(Htif *h)
{
    if (!*word(h, h->fromhost) && h->answer_count) {
        *word(h, h->fromhost) = h->answers[h->answer_head];
        h->answer_head = (h->answer_head + 1) % ANSWERS;
        h->answer_count--;
    }
}

static void answer(Htif *h, u64 value)
{
    if (h->answer_count < ANSWERS) {
        h->answers[(h->answer_head + h->answer_count++) % ANSWERS] = value;
    } else {
        log_guest_error("%s: more than %d answers wait in fromhost, one is lost\n", h->dev.name,
                        ANSWERS);
    }
    deliver(h);
}

static void read_byte(Htif *h)
{
    int c = CHAR_NONE;
    while (h->reading && (c = char_get(h->config.chr)) == CHAR_BREAK) {
    }
    if (h->reading && c != CHAR_NONE) {
        u64 command = h->reading;
        h->reading = 0;
        answer(h, (command & ~mask64(48)) | 0x100 | c);
    }
}

/* ---- Guest memory: this page or the bus --------------------------------------------------------
 */

/* One piece, which does not cross a page. */
static bool copy_piece(Htif *h, u64 pa, void *buf, u64 n, bool to_guest)
{
    u64 offset = pa - h->dev.base;
    if (offset < HTIF_PAGE_SIZE) {
        u8 *p = (u8 *)h->page + offset;
        if (to_guest) {
            memcpy(p, buf, n);
        } else {
            memcpy(buf, p, n);
        }
        return true;
    }
    if (!h->config.bus) {
        return false;
    }
    return to_guest ? bus_dma_write(h->config.bus, pa, buf, n)
                    : bus_dma_read(h->config.bus, pa, buf, n);
}

static bool copy_guest(Htif *h, u64 pa, void *buf, u64 len, bool to_guest)
{
    u8 *p = buf;
    while (len) {
        u64 n = MIN(len, HTIF_PAGE_SIZE - pa % HTIF_PAGE_SIZE);
        if (!copy_piece(h, pa, p, n, to_guest)) {
            return false;
        }
        pa += n;
        p += n;
        len -= n;
    }
    return true;
}

/* ---- Commands ----------------------------------------------------------------------------------
 */

static void finish(Htif *h, int code)
{
    if (h->config.finish) {
        h->config.finish(h->config.opaque, code ? FINISH_FAIL : FINISH_POWEROFF, code);
    }
}

/* write(fd, buffer, length): all descriptors are the console. false: the console is full, go on
 * later. */
static bool sys_write(Htif *h, u64 buffer, u64 length, s64 *result)
{
    u8 piece[512];
    length = MIN(length, WRITE_MAX);
    while (h->progress < length) {
        u64 n = MIN(length - h->progress, sizeof(piece));
        if (!copy_guest(h, buffer + h->progress, piece, n, false)) {
            *result = -EFAULT;
            return true;
        }
        u64 taken = char_write(h->config.chr, piece, n);
        h->progress += taken;
        if (taken < n) {
            return false;
        }
    }
    *result = length;
    return true;
}

static bool system_call(Htif *h, u64 pa)
{
    u64 call[8];
    s64 result = -ENOSYS;
    if (!copy_guest(h, pa, call, sizeof(call), false)) {
        log_guest_error("%s: no memory at 0x%" PRIx64 ", where a system call should be\n",
                        h->dev.name, pa);
        return true;
    }
    switch (call[0]) {
    case SYS_WRITE:
        if (!sys_write(h, call[2], call[3], &result)) {
            return false;
        }
        break;
    case SYS_EXIT:
        finish(h, call[1]);
        result = 0;
        break;
    default:
        log_printf(LOG_UNIMP, "%s: there is no system call %" PRIu64 "\n", h->dev.name, call[0]);
    }
    copy_guest(h, pa, &result, sizeof(result), true);
    answer(h, 1);
    return true;
}

/* Runs the command in tohost; false: it waits for the console. */
static bool run_command(Htif *h, u64 command)
{
    u64 payload = command & mask64(48);
    u8 byte = payload;

    switch (command >> 48) {
    case 0x0000:
        if (payload & 1) {
            finish(h, payload >> 1);
            return true;
        }
        return system_call(h, payload);
    case 0x0100:
        h->reading = command;
        read_byte(h);
        return true;
    case 0x0101:
        if (!char_write(h->config.chr, &byte, 1)) {
            return false;
        }
        /* Many programs never look at this answer: it gives way to those that are awaited. */
        if (!*word(h, h->fromhost) && !h->answer_count) {
            answer(h, (command & ~mask64(48)) | 0x100 | byte);
        }
        return true;
    default:
        log_printf(LOG_UNIMP, "%s: device %u has no command %u\n", h->dev.name,
                   (unsigned)(command >> 56), (unsigned)(command >> 48 & 0xff));
        return true;
    }
}

static void take_command(Htif *h)
{
    u64 command = *word(h, h->tohost);
    h->busy = command && !run_command(h, command);
    if (!h->busy) {
        *word(h, h->tohost) = 0;
        h->progress = 0;
    }
}

/* Whether a write that covered `mask` makes the word whole. */
static bool is_whole(u8 *halves, u64 mask)
{
    u8 now = (mask & mask64(32) ? 1 : 0) | (mask >> 32 ? 2 : 0);
    if (*halves & now || (*halves | now) == 3) {
        *halves = 0;
        return true;
    }
    *halves |= now;
    return false;
}

static void page_write(Device *d, unsigned index, u64 value G_GNUC_UNUSED, u64 mask)
{
    Htif *h = (Htif *)d;
    if (index == h->tohost / 8 && is_whole(&h->tohost_halves, mask)) {
        h->progress = 0;
        take_command(h);
    } else if (index == h->fromhost / 8 && is_whole(&h->fromhost_halves, mask)) {
        deliver(h);
    }
}

static void on_char(void *opaque)
{
    Htif *h = opaque;
    g_mutex_lock(&h->dev.lock);
    if (h->busy) {
        take_command(h);
    }
    read_byte(h);
    g_mutex_unlock(&h->dev.lock);
}

static const RegDesc htif_regs[] = {
    {.name = "page", .offset = 0, .width = 8, .count = WORDS, .stride = 8,
     .at = offsetof(Htif, page), .wmask = UINT64_MAX, .write = page_write},
};

static const StateField htif_fields[] = {
    FIELD(Htif, tohost, .kind = FIELD_CONFIG),
    FIELD(Htif, fromhost, .kind = FIELD_CONFIG),
    FIELD(Htif, tohost_halves, .max = 2),
    FIELD(Htif, fromhost_halves, .max = 2),
    FIELD(Htif, busy, .max = 1),
    FIELD(Htif, progress),
    FIELD(Htif, reading),
    FIELD_ARRAY(Htif, answers),
    FIELD(Htif, answer_head, .max = ANSWERS - 1),
    FIELD(Htif, answer_count, .max = ANSWERS),
};

static bool htif_init(Device *d, const void *config, GError **err)
{
    static const HtifConfig standard = {.tohost = 0, .fromhost = 8};
    Htif *h = (Htif *)d;
    h->config = *(const HtifConfig *)(config ? config : &standard);
    h->tohost = h->config.tohost;
    h->fromhost = h->config.fromhost;
    if (h->tohost % 8 || h->fromhost % 8 || h->tohost >= HTIF_PAGE_SIZE ||
        h->fromhost >= HTIF_PAGE_SIZE || h->tohost == h->fromhost) {
        return stag_error(err, "tohost and fromhost must be two different 8-byte aligned words of "
                               "one 4 KiB page");
    }
    char_connect(h->config.chr, on_char, h);
    return true;
}

static void htif_finalize(Device *d)
{
    char_connect(((Htif *)d)->config.chr, NULL, NULL);
}

static void htif_update(Device *d)
{
    Htif *h = (Htif *)d;
    if (h->busy) {
        take_command(h);
    }
    read_byte(h);
    deliver(h);
}

/* The words themselves, fromhost first, as OpenSBI reads them. */
static int htif_fdt(Device *d, void *fdt, int node, const DeviceFdt *env G_GNUC_UNUSED)
{
    Htif *h = (Htif *)d;
    int error = fdt_delprop(fdt, node, "reg");
    error = error ? error : fdt_appendprop_u64(fdt, node, "reg", d->base + h->fromhost);
    error = error ? error : fdt_appendprop_u64(fdt, node, "reg", 8);
    error = error ? error : fdt_appendprop_u64(fdt, node, "reg", d->base + h->tohost);
    return error ? error : fdt_appendprop_u64(fdt, node, "reg", 8);
}

bool htif_load_bytes(Device *htif, u64 offset, const void *data, u64 len)
{
    Htif *h = (Htif *)htif;
    if (offset > HTIF_PAGE_SIZE || len > HTIF_PAGE_SIZE - offset) {
        return false;
    }
    g_mutex_lock(&htif->lock);
    memcpy((u8 *)h->page + offset, data, len);
    g_mutex_unlock(&htif->lock);
    return true;
}

bool htif_read_bytes(Device *htif, u64 offset, void *data, u64 len)
{
    Htif *h = (Htif *)htif;
    if (offset > HTIF_PAGE_SIZE || len > HTIF_PAGE_SIZE - offset) {
        return false;
    }
    g_mutex_lock(&htif->lock);
    memcpy(data, (u8 *)h->page + offset, len);
    g_mutex_unlock(&htif->lock);
    return true;
}

const DeviceClass htif_class = {
    .name = "htif",
    .instance_size = sizeof(Htif),
    .region_size = HTIF_PAGE_SIZE,
    .min_access = 1,
    .max_access = 8,
    .regs = htif_regs,
    .reg_count = ARRAY_LEN(htif_regs),
    .fields = htif_fields,
    .field_count = ARRAY_LEN(htif_fields),
    .fdt_name = "htif",
    .compatible = (const char *const[]){"ucb,htif0", NULL},
    .init = htif_init,
    .finalize = htif_finalize,
    .update = htif_update,
    .fdt = htif_fdt,
};
