/* The command line: words that each end in a zero byte. They are taken or give a sentence. */
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_WORDS = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_malloc0(size + 1);
    char *argv[MAX_WORDS + 1] = {"stag"};
    int argc = 1;
    memcpy(text, data, size);
    for (char *p = text; p < text + size && argc < MAX_WORDS; p += strlen(p) + 1) {
        /* -D would write files of any name. */
        if (strncmp(p, "-D", 2) == 0 || strncmp(p, "--D", 3) == 0) {
            return 0;
        }
        argv[argc++] = p;
    }
    Cli cli;
    GError *err = NULL;
    char *printed = NULL;
    size_t printed_size;
    FILE *out = open_memstream(&printed, &printed_size);
    cli_init(&cli);
    bool ok = cli_parse(&cli, argc, argv, out, &err);
    g_assert(ok == (err == NULL));
    if (err) {
        g_assert(strlen(err->message) > 10);
        g_error_free(err);
    } else if (!cli.done) {
        g_assert(cli.machine.ram_size > 0 && cli.machine.harts == 1);
    }
    fclose(out);
    free(printed);
    cli_clear(&cli);
    return 0;
}

void fuzz_samples(GPtrArray *samples)
{
    static const char a[] = "-M\0virt,dumpdtb=x\0-m\0"
                            "2G\0-cpu\0rv64,zba=off\0-nographic\0-kernel=k\0--append\0a b";
    static const char b[] =
        "-accel\0jit,tb-size=8,thread=multi\0-d\0in_asm,op\0-serial\0null\0-tb-size\0"
        "64";
    static const char c[] = "-device\0loader,file=f,addr=0x80000000,cpu-num=0,force-raw=on\0-m\0"
                            "1.5T\0-smp\0cpus=1";
    static const char d[] = "-device\0loader,addr=1,data=0x1234,data-len=8,data-be=off\0-cpu\0help";
    static const char e[] =
        "-kernal\0-M\0help\0-help\0--version\0-m\0size=128\0-signature\0f\0-singlestep";
    g_ptr_array_add(samples, g_bytes_new_static(a, sizeof(a)));
    g_ptr_array_add(samples, g_bytes_new_static(b, sizeof(b)));
    g_ptr_array_add(samples, g_bytes_new_static(c, sizeof(c)));
    g_ptr_array_add(samples, g_bytes_new_static(d, sizeof(d)));
    static const char f[] =
        "-device\0virtio-rng-device,id=r,bus=virtio-mmio-bus.0,max-bytes=1\0-chardev\0socket,id=c,"
        "path=/x,,y,server,nowait,mux=on\0-serial\0chardev:c\0-mon\0chardev=c,mode=readline\0-S";
    static const char g[] =
        "-monitor\0tcp:[::1]:4444,server=on,wait=off\0-serial\0mon:unix:/x,nodelay\0-global\0"
        "virtio-mmio.force-legacy=false\0-chardev\0file,id=f,path=/x,append=on\0-device\0help";
    g_ptr_array_add(samples, g_bytes_new_static(e, sizeof(e)));
    g_ptr_array_add(samples, g_bytes_new_static(f, sizeof(f)));
    static const char h[] =
        "-drive\0file=disk.img,format=raw,if=virtio,cache=none,discard=unmap,index=3\0-hda\0a,b\0"
        "-snapshot\0-drive\0if=none,id=d,file=x,,y,readonly=on\0-device\0virtconsole,chardev=c";
    g_ptr_array_add(samples, g_bytes_new_static(g, sizeof(g)));
    static const char i[] =
        "-netdev\0user,id=n0,hostfwd=tcp::2222-:22,restrict=on\0-nic\0user,mac=52:54:00:12:34:56,"
        "model=virtio-net-pci\0-nic\0none\0-net\0none\0-nic\0tap,ifname=t";
    g_ptr_array_add(samples, g_bytes_new_static(h, sizeof(h)));
    g_ptr_array_add(samples, g_bytes_new_static(i, sizeof(i)));
}
