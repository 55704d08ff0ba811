/* Lists of properties: what each type takes and refuses, defaults, help. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/error.h"
#include "devices/props.h"

typedef struct Things {
    char *text;
    GPtrArray *list;
    bool on;
    u64 number, size;
    unsigned choice;
    u8 mac[6];
} Things;

static const char *const colours[] = {"red", "green", NULL};
static const PropDesc props[] = {
    {"text", PROP_STRING, offsetof(Things, text), "none", "a text"},
    {"list", PROP_LIST, offsetof(Things, list), NULL, "texts"},
    {"on", PROP_BOOL, offsetof(Things, on), NULL, "a switch"},
    {"number", PROP_UINT, offsetof(Things, number), "7", "a number", .min = 2, .max = 300},
    {"size", PROP_SIZE, offsetof(Things, size), "64K", "a size", .max = 1 << 30},
    {"choice", PROP_ENUM, offsetof(Things, choice), "green", "a colour", .choices = colours},
    {"mac", PROP_MAC, offsetof(Things, mac), "52:54:00:12:34:56", "an address"},
};

START_TEST(values)
{
    Things t;
    ck_assert(props_parse(props, ARRAY_LEN(props), "-x", NULL, &t, NULL));
    ck_assert_str_eq(t.text, "none");
    ck_assert_uint_eq(t.list->len, 0);
    ck_assert(!t.on && t.number == 7 && t.size == 65536 && t.choice == 1 && t.mac[5] == 0x56);
    props_clear(props, ARRAY_LEN(props), &t);
    ck_assert_ptr_null(t.text);

    ck_assert(props_parse(props, ARRAY_LEN(props), "-x",
                          "text=a,,b=c,list=1,on,number=0x12c,list=2,size=1M,choice=red,"
                          "mac=00:1a:2B:3c:4d:ff,text=last,,",
                          &t, NULL));
    ck_assert_str_eq(t.text, "last,");
    ck_assert_uint_eq(t.list->len, 2);
    ck_assert_str_eq(t.list->pdata[1], "2");
    ck_assert(t.on && t.number == 300 && t.size == 1 << 20 && t.choice == 0 && t.mac[2] == 0x2b);
    props_clear(props, ARRAY_LEN(props), &t);
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"numbr=3", "-x: there is no property 'numbr'; the nearest is 'number'"},
        {"number=1", "-x: number=1: it takes number from 2 to 300"},
        {"number=", "-x: number=: it takes number from 2 to 300"},
        {"number=3x", "-x: number=3x: it takes number from 2 to 300"},
        {"number", "-x: number=: it takes number from 2 to 300"},
        {"size=2G", "-x: size=2G: it takes size from 0 to 1073741824"},
        {"choice=blue", "-x: choice=blue: it takes red|green"},
        {"on=maybe", "-x: on=maybe: it takes on|off"},
        {"text", "-x: text=: it takes text"},
        {"mac=00:1a:2b:3c:4d", "-x: mac=00:1a:2b:3c:4d: it takes xx:xx:xx:xx:xx:xx"},
        {"mac=00:1a:2b:3c:4d:5g", "-x: mac=00:1a:2b:3c:4d:5g: it takes xx:xx:xx:xx:xx:xx"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        Things t;
        GError *err = NULL;
        ck_assert(!props_parse(props, ARRAY_LEN(props), "-x", bad[i].text, &t, &err));
        ck_assert_str_eq(err->message, bad[i].message);
        g_error_free(err);
    }
}
END_TEST

START_TEST(pieces)
{
    const char *rest;
    g_autofree char *head = props_head("a,,b,c=d,e=1,e=2", &rest);
    ck_assert_str_eq(head, "a,b");
    ck_assert_str_eq(rest, "c=d,e=1,e=2");
    g_autofree char *e = props_find(rest, "e");
    ck_assert_str_eq(e, "2");
    ck_assert_ptr_null(props_find(rest, "d"));
    g_autofree char *only = props_head("a", &rest);
    ck_assert_str_eq(only, "a");
    ck_assert_str_eq(rest, "");
}
END_TEST

START_TEST(help)
{
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    props_print(props, ARRAY_LEN(props), f);
    fclose(f);
    ck_assert_ptr_nonnull(
        strstr(text, "  choice=<red|green>                 a colour (default: green)\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "  on=<on|off>                        a switch\n"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("props");
    TCase *c = tcase_create("props");
    tcase_add_test(c, values);
    tcase_add_test(c, refused);
    tcase_add_test(c, pieces);
    tcase_add_test(c, help);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
