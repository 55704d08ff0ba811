// Virtual calls on objects of several classes in random order: an indirect call whose target changes each time.
#include "bench.h"

namespace {

struct Shape {
    u64 a, b;
    Shape(u64 x, u64 y) : a(x), b(y) {}
    virtual ~Shape() {}
    virtual u64 area() const = 0;
    virtual void grow(u64 by) { a += by; }
};
struct Square : Shape {
    using Shape::Shape;
    u64 area() const override { return a * a; }
};
struct Rectangle : Shape {
    using Shape::Shape;
    u64 area() const override { return a * b; }
    void grow(u64 by) override { b ^= by; }
};
struct Triangle : Shape {
    using Shape::Shape;
    u64 area() const override { return a * b / 2; }
};
struct Frame : Shape {
    using Shape::Shape;
    u64 area() const override { return (a + b) * 2; }
    void grow(u64 by) override { a -= by, b += by; }
};

enum { COUNT = 2000 };
Shape *shapes[COUNT];

}

static void setup(void)
{
    for (int i = 0; i < COUNT; i++) {
        u64 a = next_random() >> 50, b = next_random() >> 50;
        switch (next_random() >> 20 & 3) {
        case 0: shapes[i] = new Square(a, b); break;
        case 1: shapes[i] = new Rectangle(a, b); break;
        case 2: shapes[i] = new Triangle(a, b); break;
        default: shapes[i] = new Frame(a, b); break;
        }
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 round = 0; round < 8000; round++) {
        for (int i = 0; i < COUNT; i++) {
            sum = sum * 3 + shapes[i]->area();
            shapes[i]->grow(round & 7);
        }
    }
    return sum;
}
