/*
 * Runs in the guest: writes numbered records to the disk and says on its output which of them are
 * safe. `records FOLDER` goes on behind the last record that FOLDER/records holds. A record is a
 * line of 128 bytes; one in 16 is also a file of its own, FOLDER/files/NUMBER. Only when fsync has
 * come back, the line "synced NUMBER" is printed.
 *
 * No library: system calls of Linux, made here.
 */
enum { RECORD = 128, OWN_FILE = 16 };
enum {
    SYS_MKDIRAT = 34,
    SYS_OPENAT = 56,
    SYS_CLOSE = 57,
    SYS_LSEEK = 62,
    SYS_WRITE = 64,
    SYS_FSYNC = 82,
    SYS_FDATASYNC = 83,
    SYS_EXIT = 93,
};
enum { AT_FDCWD = -100, O_RDONLY = 0, O_RDWR = 2, O_CREAT = 0100, O_TRUNC = 01000 };
enum { SEEK_SET = 0, SEEK_END = 2 };

static long call(long n, long a, long b, long c, long d)
{
    register long a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d, a7 __asm__("a7") = n;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a7) : "memory");
    return a0;
}

static void say(const char *text)
{
    long n = 0;
    while (text[n]) {
        n++;
    }
    call(SYS_WRITE, 1, (long)text, n, 0);
}

static void must(long result, const char *what)
{
    if (result < 0) {
        say("records: this failed: ");
        say(what);
        say("\n");
        call(SYS_EXIT, 1, 0, 0, 0);
    }
}

/* Ten digits and what follows. */
static char *number(char *p, unsigned long n)
{
    for (int i = 9; i >= 0; i--, n /= 10) {
        p[i] = (char)('0' + n % 10);
    }
    return p + 10;
}

/* The number, and a sum of it over and over. */
static void make_record(char *p, unsigned long n)
{
    char *end = p + RECORD - 1;
    unsigned sum = (unsigned)n * 2654435761u;
    p = number(p, n);
    while (p < end) {
        *p++ = "0123456789abcdef"[sum >> 28];
        sum = sum << 4 | sum >> 28;
    }
    *p = '\n';
}

static void join(char *to, const char *a, const char *b)
{
    while (*a) {
        *to++ = *a++;
    }
    while ((*to++ = *b++)) {
    }
}

static long open_file(const char *name, long flags)
{
    const long fd = call(SYS_OPENAT, AT_FDCWD, (long)name, flags, 0644);
    must(fd, name);
    return fd;
}

static _Noreturn void work(const char *folder)
{
    static char path[256], files[256], record[RECORD], line[32];
    join(path, folder, "/records");
    join(files, folder, "/files");
    call(SYS_MKDIRAT, AT_FDCWD, (long)files, 0755, 0);
    const long fd = open_file(path, O_RDWR | O_CREAT), dir = open_file(files, O_RDONLY);
    join(files, files, "/");
    const long size = call(SYS_LSEEK, fd, 0, SEEK_END, 0);
    /* Half a record at the end, of which nobody was told, is written again. */
    unsigned long n = (unsigned long)size / RECORD;
    must(call(SYS_LSEEK, fd, (long)n * RECORD, SEEK_SET, 0), "lseek");
    for (;; n++) {
        make_record(record, n);
        must(call(SYS_WRITE, fd, (long)record, RECORD, 0) - RECORD, "write");
        if (n % OWN_FILE == 0) {
            char digits[11] = {0};
            number(digits, n);
            join(path, files, digits);
            const long own = open_file(path, O_RDWR | O_CREAT | O_TRUNC);
            must(call(SYS_WRITE, own, (long)record, RECORD, 0) - RECORD, "write");
            must(call(SYS_FSYNC, own, 0, 0, 0), "fsync");
            must(call(SYS_CLOSE, own, 0, 0, 0), "close");
            must(call(SYS_FSYNC, dir, 0, 0, 0), "fsync of a folder");
        }
        must(call(n & 1 ? SYS_FDATASYNC : SYS_FSYNC, fd, 0, 0, 0), "fsync");
        join(line, "synced ", "");
        *number(line + 7, n) = '\n';
        call(SYS_WRITE, 1, (long)line, 18, 0);
    }
}

__attribute__((used)) static void start(long *stack)
{
    const long count = stack[0];
    char **args = (char **)(stack + 1);
    must(count < 2 ? -1 : 0, "records FOLDER");
    work(args[1]);
}

__asm__(".globl _start\n_start: .option push\n.option norelax\nla gp, __global_pointer$\n"
        ".option pop\nmv a0, sp\nandi sp, sp, -16\ncall start\n");
