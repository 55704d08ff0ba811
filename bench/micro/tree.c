// Builds binary search trees with malloc, walks them by recursion, looks keys up, and frees them.
#include "bench.h"

typedef struct Tree {
    struct Tree *left, *right;
    u32 key, count;
} Tree;

static void setup(void)
{
}

static Tree *insert(Tree *tree, u32 key)
{
    if (!tree) {
        tree = malloc(sizeof *tree);
        *tree = (Tree){.key = key, .count = 1};
    } else if (key < tree->key) {
        tree->left = insert(tree->left, key);
    } else if (key > tree->key) {
        tree->right = insert(tree->right, key);
    } else {
        tree->count++;
    }
    return tree;
}

static u32 find(const Tree *tree, u32 key)
{
    return !tree ? 0 : key == tree->key ? tree->count : find(key < tree->key ? tree->left : tree->right, key);
}

static u64 sum_of(const Tree *tree, u32 depth)
{
    return tree ? sum_of(tree->left, depth + 1) * 3 + tree->key * depth + sum_of(tree->right, depth + 1) : 1;
}

static void release(Tree *tree)
{
    if (tree) {
        release(tree->left);
        release(tree->right);
        free(tree);
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 round = 0; round < 150; round++) {
        Tree *tree = NULL;
        for (u32 i = 0; i < 4000; i++) {
            tree = insert(tree, next_random() % 8192);
        }
        for (u32 i = 0; i < 4; i++) {
            sum += sum_of(tree, i);
        }
        for (u32 key = 0; key < 8192; key++) {
            sum = sum * 5 + find(tree, key);
        }
        release(tree);
    }
    return sum;
}
