// Follows a random ring of pointers through memory: one cache miss after the other, TLB misses too. MIB is how much
// memory, SPACE the bytes from one node to the next.
#include "bench.h"

enum { COUNT = (u64)MIB * 1048576 / SPACE, STEPS = 2 << 20 };
typedef struct Node {
    struct Node *next;
    u64 value;
} Node;
static u8 *memory;

// The i-th node of the ring; a permutation of 0..COUNT-1, for COUNT is a power of two.
static Node *node_at(u32 i)
{
    i = i * 0x9e3779b1u & (COUNT - 1);
    i ^= i >> 9;
    i = i * 0x85ebca6bu & (COUNT - 1);
    i ^= i >> 11;
    return (Node *)(memory + (u64)i * SPACE);
}

static void setup(void)
{
    memory = aligned_alloc(1 << 21, (size_t)MIB << 20);
    for (u32 i = 0; i < COUNT; i++) {
        *node_at(i) = (Node){node_at((i + 1) & (COUNT - 1)), i};
    }
}

static u64 run(void)
{
    u64 sum = 0;
    Node *node = node_at(0);
    for (u32 i = 0; i < STEPS; i++) {
        sum = sum * 3 + node->value;
        node = node->next;
    }
    return sum;
}
