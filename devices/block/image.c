/* Opening and locking images, and blocking I/O on them. See image.h. */
#include "devices/block/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/error.h"

enum {
    SECTOR = 512,
    PROBE_BYTES = 512,
    MAX_ALIGN = 4096,
    ZERO_BYTES = 1 << 20, /* written at once where the file system can't make zeroes itself */
    SLICE = 128,          /* iovecs in one call, of lists that begin in the middle */
};

/* ---- Locks ------------------------------------------------------------------------------------
 *
 * The scheme is QEMU's, so that either notices the other. A use of the image has rights that it
 * takes and rights that it leaves to others. Byte 100 + n of the file is locked (shared) by who
 * takes right n, byte 200 + n by who does not leave right n to others. After it has locked its
 * own, each looks whether somebody else holds what it can't live with. The locks belong to the
 * open file, so they go with the process, whatever ends it. */

enum { TAKEN = 100, NOT_LEFT = 200 };
enum { RIGHT_READ = 1 << 0, RIGHT_WRITE = 1 << 1, RIGHT_RESIZE = 1 << 3, RIGHTS = 4 };

static int lock_byte(int fd, off_t at)
{
    struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &l) == 0 ? 0 : errno;
}

static bool held_elsewhere(int fd, off_t at)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* 0; EBUSY: the image is in use; another errno: there are no locks here. */
static int take_locks(int fd, bool readonly)
{
    const unsigned taken = RIGHT_READ | (readonly ? 0 : RIGHT_WRITE);
    const unsigned not_left = RIGHT_WRITE | RIGHT_RESIZE;
    for (unsigned n = 0; n < RIGHTS; n++) {
        int error = taken >> n & 1 ? lock_byte(fd, TAKEN + n) : 0;
        if (!error && not_left >> n & 1) {
            error = lock_byte(fd, NOT_LEFT + n);
        }
        if (error) {
            return error == EAGAIN || error == EACCES ? EBUSY : error;
        }
    }
    for (unsigned n = 0; n < RIGHTS; n++) {
        if ((taken >> n & 1 && held_elsewhere(fd, NOT_LEFT + n)) ||
            (not_left >> n & 1 && held_elsewhere(fd, TAKEN + n))) {
            return EBUSY;
        }
    }
    return 0;
}

enum { LOCKING_AUTO, LOCKING_ON, LOCKING_OFF };

static bool lock(const Image *im, unsigned locking, GError **err)
{
    const int error = locking == LOCKING_OFF ? 0 : take_locks(im->fd, im->readonly);
    if (error == EBUSY) {
        return stag_error(
            err,
            "the image '%s' is in use by another Stag or QEMU; end that one first, or work on a "
            "copy (cp --sparse=always). Any number may share an image that all open with "
            "readonly=on or snapshot=on; file.locking=off does without the lock, and then two "
            "that write destroy the file system",
            im->name);
    }
    if (error && locking == LOCKING_ON) {
        return stag_error(err, "the image '%s' cannot be locked: %s; use file.locking=auto",
                          im->name, strerror(error));
    }
    return true;
}

/* ---- What the user may have meant ----------------------------------------------------------- */

static const struct {
    u8 at, length;
    const char *bytes, *kind, *advice;
} formats[] = {
    {0, 4, "QFI\xfb", "a qcow2 image", "qemu-img convert -O raw %s disk.raw"},
    {0, 4, "KDMV", "a VMDK image", "qemu-img convert -O raw %s disk.raw"},
    {0, 8, "vhdxfile", "a VHDX image", "qemu-img convert -O raw %s disk.raw"},
    {0, 8, "conectix", "a VHD image", "qemu-img convert -O raw %s disk.raw"},
    {64, 4, "\x7f\x10\xda\xbe", "a VDI image", "qemu-img convert -O raw %s disk.raw"},
    {0, 3, "\x1f\x8b\x08", "compressed (gzip)", "gunzip -c %s > disk.raw"},
    {0, 6, "\xfd"
           "7zXZ\0",
     "compressed (xz)", "xz -dc %s > disk.raw"},
    {0, 4, "\x28\xb5\x2f\xfd", "compressed (zstd)", "zstd -dc %s > disk.raw"},
    {0, 3, "BZh", "compressed (bzip2)", "bzip2 -dc %s > disk.raw"},
    {0, 4, "PK\x03\x04", "a zip archive", "unzip -p %s > disk.raw"},
};

static bool check_format(const Image *im, const BlockDrive *drive, GError **err)
{
    char head[PROBE_BYTES] = {0};
    if (drive->format || pread(im->fd, head, sizeof(head), 0) <= 0) {
        return true; /* the user has said that it is raw; what can't be read fails later, too */
    }
    for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
        if (memcmp(head + formats[i].at, formats[i].bytes, formats[i].length) == 0) {
            g_autofree char *quoted = g_shell_quote(im->name);
            g_autoptr(GString) advice = g_string_new(formats[i].advice);
            g_string_replace(advice, "%s", quoted, 1);
            return stag_error(err,
                              "'%s' is %s, and Stag reads raw images; make one by: %s "
                              "(format=raw takes the file as it is)",
                              im->name, formats[i].kind, advice->str);
        }
    }
    return true;
}

static bool cannot_open(const Image *im, int error, GError **err)
{
    const char *name = im->name;
    switch (error) {
    case ENOENT:
        return stag_error(err,
                          "there is no image '%s'; to make an empty one: truncate -s 8G FILE", name);
    case EISDIR:
        return stag_error(err, "'%s' is a folder, not an image", name);
    case EACCES:
    case EPERM:
    case EROFS:
        return im->readonly
                   ? stag_error(err, "no permission to read the image '%s'", name)
                   : stag_error(err,
                                "no permission to write the image '%s'; snapshot=on keeps writes "
                                "in a temporary file, readonly=on forbids them",
                                name);
    case ETXTBSY:
    case EBUSY:
        return stag_error(err, "the image '%s' is in use by the host (mounted?)", name);
    default:
        return stag_error(err, "cannot open the image '%s': %s", name, strerror(error));
    }
}

/* ---- Opening -------------------------------------------------------------------------------- */

static bool find_size(Image *im, GError **err)
{
    struct stat st;
    u64 size = 0;
    if (fstat(im->fd, &st) < 0) {
        return cannot_open(im, errno, err);
    }
    const bool is_device = S_ISBLK(st.st_mode);
    if (S_ISDIR(st.st_mode)) {
        return cannot_open(im, EISDIR, err);
    } else if (S_ISREG(st.st_mode)) {
        size = (u64)st.st_size;
    } else if (!is_device) {
        return stag_error(err, "'%s' is neither a file nor a block device", im->name);
    } else if (ioctl(im->fd, BLKGETSIZE64, &size) < 0) {
        return cannot_open(im, errno, err);
    }
    if (!size) {
        return stag_error(err, "the image '%s' is empty; to make it 8 GiB: truncate -s 8G FILE",
                          im->name);
    }
    if (size > G_MAXINT64 - SECTOR) {
        return stag_error(err, "the image '%s' is too large", im->name);
    }
    im->size = (size + SECTOR - 1) / SECTOR * SECTOR;
    return true;
}

static bool known_alignment(Image *im)
{
#ifdef STATX_DIOALIGN
    struct statx stx;
    if (statx(im->direct, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        stx.stx_mask & STATX_DIOALIGN && stx.stx_dio_offset_align && stx.stx_dio_mem_align) {
        im->offset_align = stx.stx_dio_offset_align;
        im->memory_align = stx.stx_dio_mem_align;
        return true;
    }
#endif
    return false;
}

/* The smallest alignment with which a read works, by trying. */
static void probe_alignment(Image *im)
{
    u8 *buffer = aligned_alloc(MAX_ALIGN, 2 * MAX_ALIGN);
    u32 align = SECTOR;
    while (align < MAX_ALIGN && pread(im->direct, buffer + align, align, 0) < 0) {
        align *= 2;
    }
    im->offset_align = im->memory_align = align;
    free(buffer);
}

static bool open_direct(Image *im, int mode, GError **err)
{
    /* By the descriptor, so that it is the same file whatever the path means by now. */
    g_autofree char *same = g_strdup_printf("/proc/self/fd/%d", im->fd);
    im->direct = open(same, mode | O_DIRECT | O_CLOEXEC);
    if (im->direct < 0 && errno == ENOENT) {
        im->direct = open(im->name, mode | O_DIRECT | O_CLOEXEC);
    }
    if (im->direct < 0) {
        return stag_error(err,
                          "the file system of '%s' has no direct I/O (%s); use cache=writeback "
                          "or cache=writethrough",
                          im->name, strerror(errno));
    }
    if (!known_alignment(im)) {
        probe_alignment(im);
    }
    return true;
}

bool disk_image_open(Image *im, const BlockDrive *drive, bool readonly, GError **err)
{
    *im = (Image){.name = g_strdup(drive->file), .fd = -1, .direct = -1};
    im->readonly = readonly || drive->readonly;
    const int mode = im->readonly ? O_RDONLY : O_RDWR;
    /* O_NONBLOCK: a pipe must not make us wait; regular files and disks don't know it. */
    im->fd = open(im->name, mode | O_CLOEXEC | O_NONBLOCK);
    bool ok = im->fd >= 0 ? true : cannot_open(im, errno, err);
    ok = ok && find_size(im, err) && lock(im, drive->locking, err) && check_format(im, drive, err);
    if (ok && (drive->cache == BLOCK_NONE || drive->cache == BLOCK_DIRECTSYNC)) {
        ok = open_direct(im, mode, err);
    }
    if (!ok) {
        image_close(im);
    }
    return ok;
}

bool image_temporary(Image *im, u64 size, GError **err)
{
    const char *folder = g_getenv("TMPDIR") ? g_getenv("TMPDIR") : "/var/tmp";
    *im = (Image){.direct = -1, .size = size};
    im->name = g_build_filename(folder, "stag-snapshot-XXXXXX", NULL);
    im->fd = g_mkstemp_full(im->name, O_RDWR | O_CLOEXEC, 0600);
    if (im->fd >= 0) {
        unlink(im->name);
        if (ftruncate(im->fd, (off_t)size) == 0) {
            return true;
        }
    }
    stag_error(err,
               "cannot make a temporary file in '%s' for snapshot=on: %s; TMPDIR names "
               "another folder",
               folder, strerror(errno));
    image_close(im);
    return false;
}

void image_close(Image *im)
{
    if (im->direct >= 0) {
        close(im->direct);
    }
    if (im->fd >= 0) {
        close(im->fd);
    }
    g_free(im->name);
    *im = (Image){.fd = -1, .direct = -1};
}

/* ---- Reading and writing -------------------------------------------------------------------- */

int image_fd(const Image *im, u64 offset, u64 bytes, const struct iovec *iov, unsigned count)
{
    if (im->direct < 0 || (offset | bytes) & (im->offset_align - 1)) {
        return im->fd;
    }
    for (unsigned i = 0; i < count; i++) {
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) & (im->memory_align - 1) ||
            iov[i].iov_len & (im->offset_align - 1)) {
            return im->fd;
        }
    }
    return im->direct;
}

/* Cuts up to SLICE iovecs, `bytes` at most, out of the span. Returns their number. */
static unsigned cut(Span s, u64 bytes, struct iovec *out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s.count && n < SLICE && bytes; i++) {
        if (s.skip >= s.iov[i].iov_len) {
            s.skip -= s.iov[i].iov_len;
            continue;
        }
        out[n].iov_base = (u8 *)s.iov[i].iov_base + s.skip;
        out[n].iov_len = MIN(s.iov[i].iov_len - s.skip, bytes);
        bytes -= out[n++].iov_len;
        s.skip = 0;
    }
    return n;
}

static u64 total(const struct iovec *iov, unsigned n)
{
    u64 sum = 0;
    while (n--) {
        sum += iov[n].iov_len;
    }
    return sum;
}

/* The rest of a read beyond the end of the file. */
static void fill_zeroes(Span to, u64 bytes)
{
    struct iovec slice[SLICE];
    while (bytes) {
        const unsigned n = cut(to, bytes, slice);
        for (unsigned i = 0; i < n; i++) {
            memset(slice[i].iov_base, 0, slice[i].iov_len);
            bytes -= slice[i].iov_len;
            to.skip += slice[i].iov_len;
        }
    }
}

static int transfer(Image *im, bool write, Span span, u64 offset, u64 bytes, int flags)
{
    struct iovec slice[SLICE];
    bool buffered = false; /* whatever the alignment */
    while (bytes) {
        const unsigned n = cut(span, bytes, slice);
        const int fd = buffered ? im->fd : image_fd(im, offset, total(slice, n), slice, n);
        const ssize_t done = write ? pwritev2(fd, slice, (int)n, (off_t)offset, flags)
                                   : preadv2(fd, slice, (int)n, (off_t)offset, flags);
        if (done < 0 && errno == EINVAL && fd == im->direct) {
            buffered = true; /* the alignment that the host told is not the whole truth */
        } else if (done < 0 && errno != EINTR && errno != EAGAIN) {
            return errno;
        } else if (done == 0 && write) {
            return EIO;
        } else if (done == 0) {
            fill_zeroes(span, bytes);
            return 0;
        } else if (done > 0) {
            span.skip += (u64)done;
            offset += (u64)done;
            bytes -= (u64)done;
        }
    }
    return 0;
}

int image_read(Image *im, Span to, u64 offset, u64 bytes)
{
    return transfer(im, false, to, offset, bytes, 0);
}

int image_write(Image *im, Span from, u64 offset, u64 bytes, int flags)
{
    return transfer(im, true, from, offset, bytes, flags);
}

/* fallocate; *missing remembers that the file system does not have it. */
static int allocate(Image *im, int mode, u64 offset, u64 bytes, bool *missing)
{
    if (__atomic_load_n(missing, __ATOMIC_RELAXED)) {
        return EOPNOTSUPP;
    }
    int error;
    do {
        error = fallocate(im->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) == 0
                    ? 0
                    : errno;
    } while (error == EINTR);
    if (error == ENOSYS || error == ENOTTY || error == ENODEV) {
        error = EOPNOTSUPP;
    }
    if (error == EOPNOTSUPP) {
        __atomic_store_n(missing, true, __ATOMIC_RELAXED);
    }
    return error;
}

int image_zero(Image *im, u64 offset, u64 bytes, bool unmap)
{
    if ((unmap && allocate(im, FALLOC_FL_PUNCH_HOLE, offset, bytes, &im->no_punch) == 0) ||
        allocate(im, FALLOC_FL_ZERO_RANGE, offset, bytes, &im->no_zero) == 0) {
        return 0;
    }
    u8 *zeroes = aligned_alloc(MAX_ALIGN, ZERO_BYTES);
    memset(zeroes, 0, ZERO_BYTES);
    int error = 0;
    for (u64 done = 0; done < bytes && !error; done += ZERO_BYTES) {
        const struct iovec iov = {zeroes, MIN(bytes - done, ZERO_BYTES)};
        error = image_write(im, (Span){&iov, 1, 0}, offset + done, iov.iov_len, 0);
    }
    free(zeroes);
    return error;
}

int image_discard(Image *im, u64 offset, u64 bytes)
{
    const int error = allocate(im, FALLOC_FL_PUNCH_HOLE, offset, bytes, &im->no_punch);
    /* A discard is a hint: not to have it, or not at this alignment, is no error. */
    return error == EOPNOTSUPP || error == EINVAL ? 0 : error;
}

int image_sync(Image *im)
{
    int error, first = 0;
    do {
        error = fdatasync(im->fd) == 0 ? 0 : errno;
    } while (error == EINTR);
    if (error && error != EROFS && error != EINVAL) {
        __atomic_compare_exchange_n(&im->sync_error, &first, error, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&im->sync_error, __ATOMIC_RELAXED);
}
