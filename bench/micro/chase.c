// Follows a random ring of pointers through 64 MiB: one cache miss after the other, TLB misses too.
#include "bench.h"

enum { COUNT = (64 << 20) / 64 };
typedef struct Node {
    struct Node *next;
    u64 value[7];
} Node;
static Node *nodes;

static void setup(void)
{
    nodes = aligned_alloc(4096, COUNT * sizeof(Node));
    u32 *order = malloc(COUNT * sizeof *order);
    for (u32 i = 0; i < COUNT; i++) {
        order[i] = i;
    }
    for (u32 i = COUNT - 1; i > 0; i--) {
        u32 k = next_random() % (i + 1), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    for (u32 i = 0; i < COUNT; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % COUNT]];
        nodes[order[i]].value[0] = i;
    }
    free(order);
}

static u64 run(void)
{
    u64 sum = 0;
    Node *node = nodes;
    for (u32 i = 0; i < 2 * COUNT; i++) {
        sum = sum * 3 + node->value[0];
        node = node->next;
    }
    return sum;
}
