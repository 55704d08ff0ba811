/* Copy-on-write in a temporary file. See overlay.h. */
#include "devices/block/overlay.h"

#include <stdlib.h>

enum { CLUSTER = 64 << 10, ALIGN = 4096 };

static u64 clusters(const Overlay *o)
{
    return (o->base->size + CLUSTER - 1) / CLUSTER;
}

static bool is_moved(const Overlay *o, u64 cluster)
{
    return __atomic_load_n(&o->moved[cluster / 64], __ATOMIC_ACQUIRE) >> (cluster % 64) & 1;
}

static void set_moved(Overlay *o, u64 cluster)
{
    __atomic_fetch_or(&o->moved[cluster / 64], (u64)1 << (cluster % 64), __ATOMIC_RELEASE);
}

/* How many bytes from `offset` on, `bytes` at most, are all on one side; which one. */
static u64 run(const Overlay *o, u64 offset, u64 bytes, bool *moved)
{
    const u64 first = offset / CLUSTER;
    u64 end = first + 1;
    *moved = is_moved(o, first);
    while (end * CLUSTER < offset + bytes && is_moved(o, end) == *moved) {
        end++;
    }
    return MIN(bytes, end * CLUSTER - offset);
}

bool overlay_open(Overlay *o, Image *base, GError **err)
{
    *o = (Overlay){.base = base};
    if (!image_temporary(&o->file, base->size, err)) {
        return false;
    }
    g_mutex_init(&o->moving);
    o->moved = g_new0(u64, clusters(o) / 64 + 1);
    return true;
}

void overlay_close(Overlay *o)
{
    image_close(&o->file);
    g_clear_pointer(&o->moved, g_free);
    g_mutex_clear(&o->moving);
}

Image *overlay_image(Overlay *o, bool write, u64 offset, u64 bytes)
{
    bool moved;
    if (run(o, offset, bytes, &moved) < bytes || (write && !moved)) {
        return NULL;
    }
    return moved ? &o->file : o->base;
}

int overlay_read(Overlay *o, Span to, u64 offset, u64 bytes)
{
    int error = 0;
    while (bytes && !error) {
        bool moved;
        const u64 n = run(o, offset, bytes, &moved);
        error = image_read(moved ? &o->file : o->base, to, offset, n);
        to.skip += n;
        offset += n;
        bytes -= n;
    }
    return error;
}

/* Copies what of the cluster lies before `begin` and behind `end` from the base. */
static int copy_around(Overlay *o, u64 cluster, u64 begin, u64 end)
{
    const u64 at = cluster * CLUSTER, stop = MIN(at + CLUSTER, o->base->size);
    const struct {
        u64 begin, end;
    } parts[] = {{at, MIN(begin, stop)}, {MAX(end, at), stop}};
    u8 *buffer = NULL;
    int error = 0;
    for (unsigned i = 0; i < ARRAY_LEN(parts) && !is_moved(o, cluster) && !error; i++) {
        if (parts[i].begin < parts[i].end) {
            const struct iovec iov = {buffer ? buffer : (buffer = aligned_alloc(ALIGN, CLUSTER)),
                                      parts[i].end - parts[i].begin};
            error = image_read(o->base, (Span){&iov, 1, 0}, parts[i].begin, iov.iov_len);
            if (!error) {
                error = image_write(&o->file, (Span){&iov, 1, 0}, parts[i].begin, iov.iov_len, 0);
            }
        }
    }
    free(buffer);
    return error;
}

/* Writes `from`, or zeroes if it is NULL. */
static int move(Overlay *o, const Span *from, u64 offset, u64 bytes)
{
    const u64 first = offset / CLUSTER, last = (offset + bytes - 1) / CLUSTER;
    g_mutex_lock(&o->moving);
    int error = copy_around(o, first, offset, offset + bytes);
    if (!error && last != first) {
        error = copy_around(o, last, offset, offset + bytes);
    }
    if (!error) {
        error = from ? image_write(&o->file, *from, offset, bytes, 0)
                     : image_zero(&o->file, offset, bytes, true);
    }
    for (u64 c = first; c <= last && !error; c++) {
        set_moved(o, c);
    }
    g_mutex_unlock(&o->moving);
    return error;
}

int overlay_write(Overlay *o, Span from, u64 offset, u64 bytes)
{
    return overlay_image(o, true, offset, bytes) ? image_write(&o->file, from, offset, bytes, 0)
                                                 : move(o, &from, offset, bytes);
}

int overlay_zero(Overlay *o, u64 offset, u64 bytes)
{
    return overlay_image(o, true, offset, bytes) ? image_zero(&o->file, offset, bytes, true)
                                                 : move(o, NULL, offset, bytes);
}

/* Gives back what is in the overlay; what is in the base stays visible, as it may. */
int overlay_discard(Overlay *o, u64 offset, u64 bytes)
{
    int error = 0;
    while (bytes && !error) {
        bool moved;
        const u64 n = run(o, offset, bytes, &moved);
        error = moved ? image_discard(&o->file, offset, n) : 0;
        offset += n;
        bytes -= n;
    }
    return error;
}

u64 overlay_bytes(const Overlay *o)
{
    u64 count = 0;
    for (u64 i = 0; i <= clusters(o) / 64; i++) {
        count += (u64)__builtin_popcountll(__atomic_load_n(&o->moved[i], __ATOMIC_RELAXED));
    }
    return count * CLUSTER;
}
