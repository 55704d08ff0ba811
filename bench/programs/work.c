// What the benchmark's compiler compiles: a file of its own kind, that needs no header. A tokenizer, a parser for
// expressions with a small machine behind it, a hash table, a balanced tree, a sort, number formatting, a bit
// stream with a Huffman decoder, and matrices. Nobody runs it.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef unsigned long size_t;

void *malloc(size_t size);
void free(void *memory);
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int strcmp(const char *a, const char *b);
size_t strlen(const char *text);

enum TokenKind { TOKEN_END, TOKEN_NUMBER, TOKEN_NAME, TOKEN_OPERATOR, TOKEN_STRING, TOKEN_ERROR };

struct token {
    enum TokenKind kind;
    const char *start;
    u32 length;
    double number;
    int operator;
};

struct lexer {
    const char *at;
    u32 line, column;
    struct token token;
    const char *error;
};

static int is_space(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static int is_digit(int c) { return c >= '0' && c <= '9'; }
static int is_letter(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

void next_token(struct lexer *lexer)
{
    const char *at = lexer->at;
    struct token *token = &lexer->token;

again:
    while (is_space(*at)) {
        if (*at == '\n') {
            lexer->line++;
            lexer->column = 0;
        }
        at++;
        lexer->column++;
    }
    if (at[0] == '/' && at[1] == '/') {
        while (*at && *at != '\n') {
            at++;
        }
        goto again;
    }
    token->start = at;
    if (!*at) {
        token->kind = TOKEN_END;
    } else if (is_digit(*at)) {
        double value = 0, scale = 1;
        while (is_digit(*at)) {
            value = value * 10 + (*at++ - '0');
        }
        if (*at == '.') {
            at++;
            while (is_digit(*at)) {
                scale /= 10;
                value += scale * (*at++ - '0');
            }
        }
        if (*at == 'e' || *at == 'E') {
            int sign = 1, exponent = 0;
            at++;
            if (*at == '-' || *at == '+') {
                sign = *at++ == '-' ? -1 : 1;
            }
            while (is_digit(*at)) {
                exponent = exponent * 10 + (*at++ - '0');
            }
            while (exponent-- > 0) {
                value = sign > 0 ? value * 10 : value / 10;
            }
        }
        token->kind = TOKEN_NUMBER;
        token->number = value;
    } else if (is_letter(*at)) {
        while (is_letter(*at) || is_digit(*at)) {
            at++;
        }
        token->kind = TOKEN_NAME;
    } else if (*at == '"') {
        at++;
        while (*at && *at != '"') {
            at += *at == '\\' && at[1] ? 2 : 1;
        }
        token->kind = *at ? TOKEN_STRING : TOKEN_ERROR;
        at += *at != 0;
    } else {
        token->kind = TOKEN_OPERATOR;
        switch (*at++) {
        case '<': token->operator = *at == '=' ? (at++, 'l') : *at == '<' ? (at++, 'L') : '<'; break;
        case '>': token->operator = *at == '=' ? (at++, 'g') : *at == '>' ? (at++, 'R') : '>'; break;
        case '=': token->operator = *at == '=' ? (at++, 'e') : '='; break;
        case '!': token->operator = *at == '=' ? (at++, 'n') : '!'; break;
        case '&': token->operator = *at == '&' ? (at++, 'a') : '&'; break;
        case '|': token->operator = *at == '|' ? (at++, 'o') : '|'; break;
        case '+': case '-': case '*': case '/': case '%': case '^': case '(': case ')': case ',': case ';':
        case '~': case '?': case ':': case '[': case ']': case '{': case '}': case '.':
            token->operator = at[-1];
            break;
        default:
            token->kind = TOKEN_ERROR;
            lexer->error = "stray character";
        }
    }
    token->length = (u32)(at - token->start);
    lexer->column += token->length;
    lexer->at = at;
}

struct node {
    int operator;
    struct node *left, *right, *third;
    double number;
    u32 name;
};

struct arena {
    struct node nodes[4096];
    u32 used;
};

static struct node *new_node(struct arena *arena, int operator, struct node *left, struct node *right)
{
    if (arena->used == sizeof arena->nodes / sizeof arena->nodes[0]) {
        return 0;
    }
    struct node *node = &arena->nodes[arena->used++];
    node->operator = operator;
    node->left = left;
    node->right = right;
    node->third = 0;
    return node;
}

static int precedence(int operator)
{
    switch (operator) {
    case 'o': return 1;
    case 'a': return 2;
    case '|': return 3;
    case '^': return 4;
    case '&': return 5;
    case 'e': case 'n': return 6;
    case '<': case '>': case 'l': case 'g': return 7;
    case 'L': case 'R': return 8;
    case '+': case '-': return 9;
    case '*': case '/': case '%': return 10;
    default: return 0;
    }
}

struct table_entry {
    struct table_entry *next;
    u32 hash, value;
    char name[];
};

struct table {
    struct table_entry **buckets;
    u32 size, used;
};

static u32 hash_of(const char *name, u32 length)
{
    u32 hash = 2166136261u;
    for (u32 i = 0; i < length; i++) {
        hash = (hash ^ (u8)name[i]) * 16777619u;
    }
    return hash ^ hash >> 15;
}

static void grow(struct table *table)
{
    u32 size = table->size ? table->size * 2 : 16;
    struct table_entry **buckets = malloc(size * sizeof *buckets);
    memset(buckets, 0, size * sizeof *buckets);
    for (u32 i = 0; i < table->size; i++) {
        struct table_entry *entry = table->buckets[i];
        while (entry) {
            struct table_entry *next = entry->next;
            entry->next = buckets[entry->hash & (size - 1)];
            buckets[entry->hash & (size - 1)] = entry;
            entry = next;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->size = size;
}

u32 intern(struct table *table, const char *name, u32 length)
{
    u32 hash = hash_of(name, length);
    if (table->used * 4 >= table->size * 3) {
        grow(table);
    }
    struct table_entry **place = &table->buckets[hash & (table->size - 1)];
    for (struct table_entry *entry = *place; entry; entry = entry->next) {
        if (entry->hash == hash && strlen(entry->name) == length) {
            u32 i = 0;
            while (i < length && entry->name[i] == name[i]) {
                i++;
            }
            if (i == length) {
                return entry->value;
            }
        }
    }
    struct table_entry *entry = malloc(sizeof *entry + length + 1);
    memcpy(entry->name, name, length);
    entry->name[length] = 0;
    entry->hash = hash;
    entry->value = table->used++;
    entry->next = *place;
    *place = entry;
    return entry->value;
}

struct node *parse(struct lexer *lexer, struct arena *arena, struct table *names, int level);

static struct node *parse_primary(struct lexer *lexer, struct arena *arena, struct table *names)
{
    struct token token = lexer->token;
    struct node *node = 0;

    next_token(lexer);
    switch (token.kind) {
    case TOKEN_NUMBER:
        node = new_node(arena, 'N', 0, 0);
        if (node) {
            node->number = token.number;
        }
        return node;
    case TOKEN_NAME:
        node = new_node(arena, 'V', 0, 0);
        if (node) {
            node->name = intern(names, token.start, token.length);
            if (lexer->token.kind == TOKEN_OPERATOR && lexer->token.operator == '(') {
                struct node **tail = &node->left;
                node->operator = 'C';
                do {
                    next_token(lexer);
                    struct node *argument = parse(lexer, arena, names, 1);
                    *tail = new_node(arena, ',', argument, 0);
                    if (!*tail) {
                        return 0;
                    }
                    tail = &(*tail)->right;
                } while (lexer->token.kind == TOKEN_OPERATOR && lexer->token.operator == ',');
                next_token(lexer);
            }
        }
        return node;
    case TOKEN_OPERATOR:
        if (token.operator == '(') {
            node = parse(lexer, arena, names, 1);
            if (lexer->token.kind != TOKEN_OPERATOR || lexer->token.operator != ')') {
                lexer->error = "a closing parenthesis is missing";
            } else {
                next_token(lexer);
            }
        } else if (token.operator == '-' || token.operator == '!' || token.operator == '~') {
            node = new_node(arena, token.operator == '-' ? 'M' : token.operator, parse_primary(lexer, arena, names), 0);
        }
        return node;
    default:
        lexer->error = "an operand is missing";
        return 0;
    }
}

struct node *parse(struct lexer *lexer, struct arena *arena, struct table *names, int level)
{
    struct node *left = parse_primary(lexer, arena, names);
    while (left && lexer->token.kind == TOKEN_OPERATOR) {
        int operator = lexer->token.operator, binds = precedence(operator);
        if (operator == '?' && level <= 1) {
            next_token(lexer);
            struct node *yes = parse(lexer, arena, names, 1);
            if (lexer->token.operator == ':') {
                next_token(lexer);
            }
            struct node *no = parse(lexer, arena, names, 1);
            left = new_node(arena, '?', left, yes);
            if (left) {
                left->third = no;
            }
            continue;
        }
        if (binds < level || !binds) {
            break;
        }
        next_token(lexer);
        left = new_node(arena, operator, left, parse(lexer, arena, names, binds + 1));
    }
    return left;
}

double evaluate(const struct node *node, const double *variables)
{
    if (!node) {
        return 0;
    }
    double left = node->operator == 'C' || node->operator == 'V' ? 0 : evaluate(node->left, variables);
    switch (node->operator) {
    case 'N': return node->number;
    case 'V': return variables[node->name];
    case 'M': return -left;
    case '!': return !left;
    case '~': return (double)~(long)left;
    case '+': return left + evaluate(node->right, variables);
    case '-': return left - evaluate(node->right, variables);
    case '*': return left * evaluate(node->right, variables);
    case '/': return left / evaluate(node->right, variables);
    case '%': {
        long divisor = (long)evaluate(node->right, variables);
        return divisor ? (double)((long)left % divisor) : 0;
    }
    case '<': return left < evaluate(node->right, variables);
    case '>': return left > evaluate(node->right, variables);
    case 'l': return left <= evaluate(node->right, variables);
    case 'g': return left >= evaluate(node->right, variables);
    case 'e': return left == evaluate(node->right, variables);
    case 'n': return left != evaluate(node->right, variables);
    case 'a': return left && evaluate(node->right, variables);
    case 'o': return left || evaluate(node->right, variables);
    case '&': return (double)((long)left & (long)evaluate(node->right, variables));
    case '|': return (double)((long)left | (long)evaluate(node->right, variables));
    case '^': return (double)((long)left ^ (long)evaluate(node->right, variables));
    case 'L': return (double)((long)left << ((long)evaluate(node->right, variables) & 63));
    case 'R': return (double)((long)left >> ((long)evaluate(node->right, variables) & 63));
    case '?': return evaluate(left ? node->right : node->third, variables);
    case 'C': {
        double sum = 0;
        for (const struct node *argument = node->left; argument; argument = argument->right) {
            sum += evaluate(argument->left, variables);
        }
        return sum;
    }
    default: return 0;
    }
}

struct tree {
    struct tree *child[2];
    u64 key;
    int level;
};

static struct tree *skew(struct tree *tree)
{
    if (tree->child[0] && tree->child[0]->level == tree->level) {
        struct tree *left = tree->child[0];
        tree->child[0] = left->child[1];
        left->child[1] = tree;
        return left;
    }
    return tree;
}

static struct tree *split(struct tree *tree)
{
    if (tree->child[1] && tree->child[1]->child[1] && tree->level == tree->child[1]->child[1]->level) {
        struct tree *right = tree->child[1];
        tree->child[1] = right->child[0];
        right->child[0] = tree;
        right->level++;
        return right;
    }
    return tree;
}

struct tree *tree_insert(struct tree *tree, u64 key)
{
    if (!tree) {
        tree = malloc(sizeof *tree);
        tree->child[0] = tree->child[1] = 0;
        tree->key = key;
        tree->level = 1;
        return tree;
    }
    int side = key > tree->key;
    tree->child[side] = tree_insert(tree->child[side], key);
    return split(skew(tree));
}

u64 tree_nearest(const struct tree *tree, u64 key)
{
    u64 best = ~0ul;
    while (tree) {
        u64 distance = tree->key > key ? tree->key - key : key - tree->key;
        u64 known = best > key ? best - key : key - best;
        best = distance < known ? tree->key : best;
        tree = tree->child[key > tree->key];
    }
    return best;
}

void sort_records(u64 *first, u64 *last, int (*less)(u64, u64))
{
    while (last - first > 16) {
        u64 a = first[0], b = first[(last - first) / 2], c = last[-1];
        u64 pivot = less(a, b) ? (less(b, c) ? b : less(a, c) ? c : a) : (less(a, c) ? a : less(b, c) ? c : b);
        u64 *low = first, *high = last - 1;
        while (low <= high) {
            while (less(*low, pivot)) {
                low++;
            }
            while (less(pivot, *high)) {
                high--;
            }
            if (low <= high) {
                u64 swap = *low;
                *low++ = *high;
                *high-- = swap;
            }
        }
        if (high - first < last - low) {
            sort_records(first, high + 1, less);
            first = low;
        } else {
            sort_records(low, last, less);
            last = high + 1;
        }
    }
    for (u64 *next = first + 1; next < last; next++) {
        u64 value = *next, *hole = next;
        for (; hole > first && less(value, hole[-1]); hole--) {
            *hole = hole[-1];
        }
        *hole = value;
    }
}

u32 format_number(char *out, u64 value, u32 base, int width, char fill)
{
    char digits[66];
    int count = 0;
    do {
        digits[count++] = "0123456789abcdefghijklmnopqrstuvwxyz"[value % base];
        value /= base;
    } while (value);
    while (count < width && count < 64) {
        digits[count++] = fill;
    }
    for (int i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    out[count] = 0;
    return (u32)count;
}

struct bits {
    const u8 *at, *end;
    u64 held;
    u32 count;
};

static inline u32 take_bits(struct bits *bits, u32 count)
{
    while (bits->count < count) {
        u64 byte = bits->at < bits->end ? *bits->at++ : 0;
        bits->held |= byte << bits->count;
        bits->count += 8;
    }
    u32 value = (u32)(bits->held & ((1ul << count) - 1));
    bits->held >>= count;
    bits->count -= count;
    return value;
}

struct huffman {
    u16 count[16], symbol[288];
};

int huffman_build(struct huffman *h, const u8 *lengths, u32 symbols)
{
    u16 offsets[16];
    int left = 1;
    memset(h->count, 0, sizeof h->count);
    for (u32 i = 0; i < symbols; i++) {
        h->count[lengths[i]]++;
    }
    for (u32 length = 1; length < 16; length++) {
        left = left * 2 - h->count[length];
        if (left < 0) {
            return left;
        }
    }
    offsets[1] = 0;
    for (u32 length = 1; length < 15; length++) {
        offsets[length + 1] = (u16)(offsets[length] + h->count[length]);
    }
    for (u32 i = 0; i < symbols; i++) {
        if (lengths[i]) {
            h->symbol[offsets[lengths[i]]++] = (u16)i;
        }
    }
    return left;
}

int huffman_decode(struct bits *bits, const struct huffman *h)
{
    int code = 0, first = 0, index = 0;
    for (u32 length = 1; length < 16; length++) {
        code |= (int)take_bits(bits, 1);
        int count = h->count[length];
        if (code - count < first) {
            return h->symbol[index + (code - first)];
        }
        index += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    return -1;
}

long expand(struct bits *bits, const struct huffman *literals, const struct huffman *distances, u8 *out, u32 room)
{
    static const u16 base[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115};
    static const u8 extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4};
    u32 at = 0;
    for (;;) {
        int symbol = huffman_decode(bits, literals);
        if (symbol < 0 || symbol > 280) {
            return -1;
        }
        if (symbol == 256) {
            return at;
        }
        if (symbol < 256) {
            if (at == room) {
                return -1;
            }
            out[at++] = (u8)symbol;
            continue;
        }
        u32 length = base[symbol - 257] + take_bits(bits, extra[symbol - 257]);
        int slot = huffman_decode(bits, distances);
        if (slot < 0) {
            return -1;
        }
        u32 distance = slot < 4 ? (u32)slot + 1 : (2 + ((u32)slot & 1)) << (slot / 2 - 1);
        distance += slot < 4 ? 0 : take_bits(bits, (u32)slot / 2 - 1) + 1;
        if (distance > at || length > room - at) {
            return -1;
        }
        while (length-- > 0) {
            out[at] = out[at - distance];
            at++;
        }
    }
}

struct matrix {
    u32 rows, columns;
    double *cell;
};

int solve(struct matrix *m, double *x)
{
    u32 n = m->rows;
    for (u32 column = 0; column < n; column++) {
        u32 pivot = column;
        for (u32 row = column + 1; row < n; row++) {
            double a = m->cell[row * n + column], b = m->cell[pivot * n + column];
            if ((a < 0 ? -a : a) > (b < 0 ? -b : b)) {
                pivot = row;
            }
        }
        if (m->cell[pivot * n + column] == 0) {
            return 0;
        }
        for (u32 k = 0; k < n; k++) {
            double swap = m->cell[pivot * n + k];
            m->cell[pivot * n + k] = m->cell[column * n + k];
            m->cell[column * n + k] = swap;
        }
        double swap = x[pivot];
        x[pivot] = x[column];
        x[column] = swap;
        for (u32 row = column + 1; row < n; row++) {
            double factor = m->cell[row * n + column] / m->cell[column * n + column];
            for (u32 k = column; k < n; k++) {
                m->cell[row * n + k] -= factor * m->cell[column * n + k];
            }
            x[row] -= factor * x[column];
        }
    }
    for (u32 row = n; row-- > 0;) {
        for (u32 k = row + 1; k < n; k++) {
            x[row] -= m->cell[row * n + k] * x[k];
        }
        x[row] /= m->cell[row * n + row];
    }
    return 1;
}

int option_of(const char *word, long *value)
{
    static const struct {
        const char *name;
        int kind;
        long least, most;
    } options[] = {
        {"width", 1, 1, 4096}, {"height", 1, 1, 4096}, {"depth", 2, 1, 64}, {"level", 3, 0, 9},
        {"threads", 4, 1, 256}, {"verbose", 5, 0, 1}, {"seed", 6, 0, 2147483647}, {"limit", 7, 0, 1000000},
    };
    for (u32 i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(word, options[i].name) == 0) {
            if (*value < options[i].least) {
                *value = options[i].least;
            } else if (*value > options[i].most) {
                *value = options[i].most;
            }
            return options[i].kind;
        }
    }
    return -1;
}
