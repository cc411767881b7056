/* Avro to and from message classes: interprets the program that compile_native.py makes of a bound schema.

A program is a tuple of nodes, each a tuple that begins with its kind. A node names others by their place and only such
as stand before it, so nothing can contain itself; the last node is the whole value.

    ("null",) ("int",) ("long",) ("float",) ("double",) ("bytes",) ("string",)
    ("boolean", {False: 0, True: 1})
    ("fixed", size)
    ("enum", (symbol, …), {symbol: its number, …})
    ("array", item) ("map", value)
    ("union", (branch, …), (class of that branch's values or None, …))
    ("record", how, class or None, ((name, type, argument or -1), …), names of the arguments given by keyword)
    ("converted", inner, class, to Avro, from Avro, whether it may read back as another)

"converted": the values of `class`, and of none derived from it, are written as what `to Avro` makes of them, of the type
`inner`; what was read goes through `from Avro`.

`argument`: the field's place among the arguments of the class; -1: the class does not have the field. `how` to make an
instance is found by construction.py, and checked here as far as memory depends on it: "slots" are set in place, a
"tuple" is filled in place, "call" calls the class, "none" stands for a record without a class: stepped over, read as
None.

What this file may not do, whatever the bytes and values are: crash, read beyond the bytes, take memory out of
proportion to them, keep state between calls other than the scratch buffer, or differ in meaning from the Python that
compile_decode.py and compile_encode.py generate. User code may run in the middle of each call (a constructor, a
property, __eq__), and with it other threads and calls of the same program. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

enum kind { NUL, BOOLEAN, INT, LONG, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, ARRAY, MAP, UNION, RECORD, CONVERTED };
static const char *const KINDS[] = {"null",  "boolean", "int", "long",  "float",  "double",    "bytes", "string",
                                    "fixed", "enum",    "array", "map", "union", "record", "converted", NULL};
enum how { SLOTS, TUPLE, CALL, NONE };
static const char *const HOWS[] = {"slots", "tuple", "call", "none", NULL};

#define DEPTH_MAX 200         /* of a schema: bounds the C stack */
#define SCRATCH_KEPT 0x10000  /* a larger buffer is not kept from one record to the next */

/* Python objects in nodes are borrowed from the program's tuple, which outlives them. */
typedef struct node node;

typedef struct {
    PyObject *name;
    const node *type;
    Py_ssize_t argument;
    Py_ssize_t offset; /* how == SLOTS: of the slot in an instance */
} field;

struct node {
    enum kind kind;
    enum how how;
    int depth;
    int gc;                      /* record: whether the collector knows the instances */
    Py_ssize_t smallest;         /* fewest bytes that a value takes; array, map: that an item takes */
    Py_ssize_t count;            /* bytes of a fixed; symbols, branches, fields of the others */
    Py_ssize_t arguments, named; /* record: arguments in all, and how many of them, the last, are given by keyword */
    PyTypeObject *cls;
    PyObject *keywords, *symbols, *codes;
    PyObject *to_avro, *from_avro; /* converted */
    int inexact;                   /* converted: whether a value may read back as another */
    const node *item;
    const node **branches;
    PyObject **types; /* of the branches */
    field *fields;
};

typedef struct {
    PyObject_HEAD
    PyObject *nodes, *header, *misfits;
    PyObject *foreign, *undecodable, *unwritable; /* what to call; NULL once the collector has cleared them */
    Py_ssize_t count, empty_items_max;
    node *node;
    uint8_t *scratch; /* taken out while a call uses it, so that calls never share it */
    Py_ssize_t scratch_size;
} program;

/* --- reading ------------------------------------------------------------------------------------------------------ */

typedef struct {
    const uint8_t *at, *end;
    uint64_t empty_items; /* how many more items that take no bytes are believed in this record */
} reader;

static PyObject *read_value(const node *type, reader *r);
static int skip_value(const node *type, reader *r);

static int misfit(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

static inline int need(const reader *r, Py_ssize_t bytes) {
    return bytes <= r->end - r->at ? 0 : misfit("the record ends too early");
}

/* A varint as it stands, not yet unzigzagged. */
static inline int read_varint(reader *r, uint64_t *raw) {
    const uint8_t *at = r->at;
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (at >= r->end)
            return misfit("the record ends too early");
        uint64_t byte = *at++;
        if (shift == 63 && byte > 1)
            break;
        value |= (byte & 127) << shift;
        if (byte < 128) {
            r->at = at;
            *raw = value;
            return 0;
        }
    }
    return misfit("a number of more than 64 bits");
}

static inline int64_t unzigzag(uint64_t raw) {
    return (int64_t)((raw >> 1) ^ (0 - (raw & 1)));
}

/* A length of something that is there. */
static inline int read_length(reader *r, Py_ssize_t *length) {
    uint64_t raw;
    if (read_varint(r, &raw))
        return -1;
    if (raw & 1)
        return misfit("a negative length");
    if (raw >> 1 > (uint64_t)(r->end - r->at))
        return misfit("the record ends too early");
    *length = (Py_ssize_t)(raw >> 1);
    return 0;
}

/* The number of an enum's symbol or a union's branch. */
static inline int read_choice(const node *type, reader *r, Py_ssize_t *choice) {
    uint64_t raw;
    if (read_varint(r, &raw))
        return -1;
    if (raw & 1 || raw >> 1 >= (uint64_t)type->count)
        return misfit(type->kind == ENUM ? "no such symbol of an enum" : "no such branch of a union");
    *choice = (Py_ssize_t)(raw >> 1);
    return 0;
}

/* How many items the next block of an array or a map has, 0 at its end: never more than the bytes left could hold. */
static int read_count(const node *type, reader *r, Py_ssize_t *count) {
    uint64_t raw, items, block_size;
    if (read_varint(r, &raw))
        return -1;
    items = (raw >> 1) + (raw & 1); /* -n stands for n items with the size of the block before them */
    if (raw & 1 && read_varint(r, &block_size))
        return -1;
    if (type->smallest == 0) {
        if (items > r->empty_items)
            return misfit("too many empty items");
        r->empty_items -= items;
    }
    else if (items > (uint64_t)((r->end - r->at) / type->smallest))
        return misfit("the record ends too early");
    *count = (Py_ssize_t)items;
    return 0;
}

static PyObject *read_string(reader *r) {
    Py_ssize_t length;
    if (read_length(r, &length))
        return NULL;
    r->at += length;
    return PyUnicode_DecodeUTF8((const char *)r->at - length, length, NULL);
}

static PyObject *read_bytes(reader *r, Py_ssize_t length) {
    r->at += length;
    return PyBytes_FromStringAndSize((const char *)r->at - length, length);
}

/* One block of an array. The collector does not see a tuple that is not full yet. */
static PyObject *read_block(const node *type, reader *r, Py_ssize_t count) {
    PyObject *items = PyTuple_New(count);
    if (items == NULL || count == 0)
        return items;
    PyObject_GC_UnTrack(items);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = read_value(type->item, r);
        if (item == NULL) {
            Py_DECREF(items);
            return NULL;
        }
        PyTuple_SET_ITEM(items, i, item);
    }
    PyObject_GC_Track(items);
    return items;
}

static PyObject *read_array(const node *type, reader *r) {
    Py_ssize_t count;
    if (read_count(type, r, &count))
        return NULL;
    PyObject *items = read_block(type, r, count);
    if (items == NULL || count == 0)
        return items;
    if (read_count(type, r, &count))
        goto failed;
    if (count == 0) /* as nearly always */
        return items;
    Py_SETREF(items, PySequence_List(items));
    while (items != NULL && count) {
        PyObject *block = read_block(type, r, count);
        if (block == NULL)
            goto failed;
        Py_ssize_t end = PyList_GET_SIZE(items);
        int error = PyList_SetSlice(items, end, end, block);
        Py_DECREF(block);
        if (error || read_count(type, r, &count))
            goto failed;
    }
    if (items != NULL)
        Py_SETREF(items, PyList_AsTuple(items));
    return items;
failed:
    Py_DECREF(items);
    return NULL;
}

static PyObject *read_map(const node *type, reader *r) {
    Py_ssize_t count;
    PyObject *items = PyDict_New();
    if (items == NULL)
        return NULL;
    do {
        if (read_count(type, r, &count))
            goto failed;
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *key = read_string(r);
            PyObject *value = key ? read_value(type->item, r) : NULL;
            int error = value == NULL || PyDict_SetItem(items, key, value);
            Py_XDECREF(key);
            Py_XDECREF(value);
            if (error)
                goto failed;
        }
    } while (count);
    return items;
failed:
    Py_DECREF(items);
    return NULL;
}

/* An instance without values, or the tuple of a constructor's arguments; the collector does not see it yet. */
static PyObject *blank(const node *type) {
    PyObject *made;
    if (type->how == CALL)
        made = PyTuple_New(type->arguments);
    else
        made = type->cls->tp_alloc(type->cls, type->how == TUPLE ? type->arguments : 0);
    if (made != NULL && type->gc)
        PyObject_GC_UnTrack(made);
    return made;
}

static PyObject *finished(const node *type, PyObject *made) {
    if (type->how == CALL) {
        PyObject *const *arguments = &PyTuple_GET_ITEM(made, 0);
        size_t placed = (size_t)(type->arguments - type->named);
        Py_SETREF(made, PyObject_Vectorcall((PyObject *)type->cls, arguments, placed, type->named ? type->keywords : NULL));
        return made;
    }
    if (type->gc)
        PyObject_GC_Track(made);
    return made;
}

static PyObject *read_record(const node *type, reader *r) {
    if (type->how == NONE)
        return skip_value(type, r) ? NULL : Py_NewRef(Py_None);
    PyObject *made = blank(type);
    if (made == NULL)
        return NULL;
    for (const field *f = type->fields, *end = f + type->count; f < end; f++) {
        if (f->argument < 0) {
            if (skip_value(f->type, r))
                goto failed;
            continue;
        }
        PyObject *value = read_value(f->type, r);
        if (value == NULL)
            goto failed;
        if (type->how == SLOTS)
            *(PyObject **)((char *)made + f->offset) = value;
        else
            PyTuple_SET_ITEM(made, f->argument, value);
    }
    return finished(type, made);
failed:
    Py_DECREF(made);
    return NULL;
}

static PyObject *read_converted(const node *type, reader *r) {
    PyObject *made = read_value(type->item, r);
    if (made != NULL)
        Py_SETREF(made, PyObject_CallOneArg(type->from_avro, made));
    return made;
}

static PyObject *read_value(const node *type, reader *r) {
    uint64_t raw;
    Py_ssize_t n;
    double number;
    switch (type->kind) {
    case NUL: return Py_NewRef(Py_None);
    case BOOLEAN: return need(r, 1) ? NULL : PyBool_FromLong(*r->at++);
    case INT: case LONG: return read_varint(r, &raw) ? NULL : PyLong_FromLongLong(unzigzag(raw));
    case FLOAT: case DOUBLE:
        n = type->smallest;
        if (need(r, n))
            return NULL;
        number = n == 4 ? PyFloat_Unpack4((const char *)r->at, 1) : PyFloat_Unpack8((const char *)r->at, 1);
        r->at += n;
        return number == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(number);
    case BYTES: return read_length(r, &n) ? NULL : read_bytes(r, n);
    case STRING: return read_string(r);
    case FIXED: return need(r, type->count) ? NULL : read_bytes(r, type->count);
    case ENUM: return read_choice(type, r, &n) ? NULL : Py_NewRef(PyTuple_GET_ITEM(type->symbols, n));
    case ARRAY: return read_array(type, r);
    case MAP: return read_map(type, r);
    case UNION: return read_choice(type, r, &n) ? NULL : read_value(type->branches[n], r);
    case RECORD: return read_record(type, r);
    case CONVERTED: return read_converted(type, r);
    }
    Py_UNREACHABLE();
}

/* Steps over a value: checks what that needs, and makes nothing. */
static int skip_value(const node *type, reader *r) {
    uint64_t raw;
    Py_ssize_t n = 0;
    switch (type->kind) {
    case NUL: return 0;
    case INT: case LONG: return read_varint(r, &raw);
    case BYTES: case STRING:
        if (read_length(r, &n))
            return -1;
        r->at += n;
        return 0;
    case BOOLEAN: case FLOAT: case DOUBLE: case FIXED:
        if (need(r, type->smallest))
            return -1;
        r->at += type->smallest;
        return 0;
    case ENUM: return read_choice(type, r, &n);
    case UNION: return read_choice(type, r, &n) ? -1 : skip_value(type->branches[n], r);
    case CONVERTED: return skip_value(type->item, r);
    case RECORD:
        for (Py_ssize_t i = 0; i < type->count; i++)
            if (skip_value(type->fields[i].type, r))
                return -1;
        return 0;
    case ARRAY: case MAP:
        do {
            if (read_count(type, r, &n))
                return -1;
            for (Py_ssize_t i = 0; i < n; i++) {
                Py_ssize_t key = 0;
                if (type->kind == MAP && read_length(r, &key))
                    return -1;
                r->at += key;
                if (skip_value(type->item, r))
                    return -1;
            }
        } while (n);
        return 0;
    }
    Py_UNREACHABLE();
}

/* The value that begins at `at` and ends with the data. */
static PyObject *read_all(const program *self, PyObject *data, Py_ssize_t at) {
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(data);
    reader r = {bytes + at, bytes + PyBytes_GET_SIZE(data), (uint64_t)self->empty_items_max};
    PyObject *value = read_value(&self->node[self->count - 1], &r);
    if (value != NULL && r.at != r.end) {
        Py_CLEAR(value);
        misfit("the record does not end where its schema says");
    }
    return value;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

typedef struct {
    uint8_t *bytes;
    Py_ssize_t used, size;
    int inexact; /* whether something was written that reads back as another value, or as one of another class */
} writer;

static int write_value(const node *type, PyObject *value, writer *w);

static int grow(writer *w, Py_ssize_t more) {
    if (more > PY_SSIZE_T_MAX / 4 || w->used > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t size = w->used + more < 512 ? 1024 : 2 * (w->used + more);
    uint8_t *bytes = PyMem_Realloc(w->bytes, (size_t)size);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    w->bytes = bytes;
    w->size = size;
    return 0;
}

static inline int room(writer *w, Py_ssize_t more) {
    return w->size - w->used >= more ? 0 : grow(w, more);
}

static inline int write_raw(writer *w, const void *bytes, Py_ssize_t length) {
    if (room(w, length))
        return -1;
    memcpy(w->bytes + w->used, bytes, (size_t)length);
    w->used += length;
    return 0;
}

static inline int write_number(writer *w, int64_t number) {
    uint64_t rest = (uint64_t)number << 1 ^ (number < 0 ? UINT64_MAX : 0);
    if (room(w, 10))
        return -1;
    for (; rest > 127; rest >>= 7)
        w->bytes[w->used++] = (uint8_t)(rest | 128);
    w->bytes[w->used++] = (uint8_t)rest;
    return 0;
}

static int unexpected(const char *expected, PyObject *value) {
    PyErr_Format(PyExc_TypeError, "expected %s, not %.100s", expected, Py_TYPE(value)->tp_name);
    return -1;
}

static int write_integer(const node *type, PyObject *value, writer *w) {
    int overflow;
    if (!PyLong_Check(value))
        return unexpected("int", value);
    w->inexact |= !PyLong_CheckExact(value);
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && !overflow && PyErr_Occurred())
        return -1;
    if (overflow || (type->kind == INT && number != (int32_t)number)) {
        PyErr_Format(PyExc_ValueError, "%S does not fit %d bits", value, type->kind == INT ? 32 : 64);
        return -1;
    }
    return write_number(w, number);
}

static int write_float(const node *type, PyObject *value, writer *w) {
    double number = PyFloat_AsDouble(value);
    if ((number == -1.0 && PyErr_Occurred()) || room(w, 8))
        return -1;
    if (!isfinite(number))
        return misfit("a number that is not finite");
    w->inexact |= !PyFloat_CheckExact(value) || (type->kind == FLOAT && (double)(float)number != number);
    char *at = (char *)w->bytes + w->used;
    if (type->kind == FLOAT ? PyFloat_Pack4(number, at, 1) : PyFloat_Pack8(number, at, 1))
        return -1;
    w->used += type->smallest;
    return 0;
}

static int write_string(PyObject *value, writer *w) {
    if (!PyUnicode_Check(value))
        return unexpected("str", value);
    w->inexact |= !PyUnicode_CheckExact(value);
    if (PyUnicode_IS_COMPACT_ASCII(value)) {
        Py_ssize_t length = PyUnicode_GET_LENGTH(value);
        return write_number(w, length) || write_raw(w, PyUnicode_DATA(value), length) ? -1 : 0;
    }
    PyObject *utf8 = PyUnicode_AsUTF8String(value); /* AsUTF8AndSize would leave a second copy in the string for ever */
    if (utf8 == NULL)
        return -1;
    Py_ssize_t length = PyBytes_GET_SIZE(utf8);
    int error = write_number(w, length) || write_raw(w, PyBytes_AS_STRING(utf8), length);
    Py_DECREF(utf8);
    return error ? -1 : 0;
}

/* A value that stands for a number, by equality as in a dict: a symbol of an enum, or what equals True or False. */
static int write_code(const node *type, PyObject *value, writer *w) {
    PyObject *code = PyDict_GetItemWithError(type->codes, value);
    if (code == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetObject(PyExc_KeyError, value);
        return -1;
    }
    int64_t number = PyLong_AsLongLong(code);
    w->inexact |= !PyUnicode_CheckExact(value); /* an enum's symbol is text; True and False come another way */
    if (type->kind == ENUM)
        return write_number(w, number);
    uint8_t byte = number != 0;
    return write_raw(w, &byte, 1);
}

static int write_array(const node *type, PyObject *value, writer *w) {
    if (!PyTuple_CheckExact(value))
        return unexpected("tuple", value);
    Py_ssize_t count = PyTuple_GET_SIZE(value);
    if (count && write_number(w, count))
        return -1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (write_value(type->item, PyTuple_GET_ITEM(value, i), w))
            return -1;
    return write_number(w, 0);
}

static int write_map(const node *type, PyObject *value, writer *w) {
    if (!PyDict_CheckExact(value))
        return unexpected("dict", value);
    Py_ssize_t count = PyDict_GET_SIZE(value), left = count, at = 0;
    PyObject *key, *item;
    if (count && write_number(w, count))
        return -1;
    while (PyDict_Next(value, &at, &key, &item)) {
        Py_INCREF(key); /* the dict may change while an item is written */
        Py_INCREF(item);
        int error = write_string(key, w) || write_value(type->item, item, w);
        Py_DECREF(key);
        Py_DECREF(item);
        if (error)
            return -1;
        left--;
        if (PyDict_GET_SIZE(value) != count)
            break;
    }
    if (left || PyDict_GET_SIZE(value) != count) {
        PyErr_SetString(PyExc_RuntimeError, "dictionary changed size during iteration");
        return -1;
    }
    return write_number(w, 0);
}

static int write_union(const node *type, PyObject *value, writer *w) {
    for (Py_ssize_t i = 0; i < type->count; i++)
        if (type->types[i] == (PyObject *)Py_TYPE(value))
            return write_number(w, i) ? -1 : write_value(type->branches[i], value, w);
    for (Py_ssize_t i = 0; PyLong_CheckExact(value) && i < type->count; i++) /* an int will do where a float is wanted */
        if (type->branches[i]->kind == FLOAT || type->branches[i]->kind == DOUBLE)
            return write_number(w, i) ? -1 : write_float(type->branches[i], value, w);
    return unexpected("a member of the union", value);
}

/* Anything that has the attributes will do, as in Python; only an instance of the very class is read in place. */
static int write_record(const node *type, PyObject *value, writer *w) {
    enum how how = Py_IS_TYPE(value, type->cls) ? type->how : CALL;
    if (how == TUPLE && PyTuple_GET_SIZE(value) != type->arguments)
        how = CALL;
    w->inexact |= !Py_IS_TYPE(value, type->cls);
    for (const field *f = type->fields, *end = f + type->count; f < end; f++) {
        PyObject *part = NULL;
        if (f->argument >= 0 && how == SLOTS)
            part = Py_XNewRef(*(PyObject **)((char *)value + f->offset));
        else if (f->argument >= 0 && how == TUPLE)
            part = Py_NewRef(PyTuple_GET_ITEM(value, f->argument));
        if (part == NULL) /* an empty slot too: this says which */
            part = PyObject_GetAttr(value, f->name);
        if (part == NULL)
            return -1;
        int error = write_value(f->type, part, w);
        Py_DECREF(part);
        if (error)
            return -1;
    }
    return 0;
}

static int write_converted(const node *type, PyObject *value, writer *w) {
    if (!Py_IS_TYPE(value, type->cls))
        return unexpected(type->cls->tp_name, value);
    PyObject *made = PyObject_CallOneArg(type->to_avro, value);
    if (made == NULL)
        return -1;
    w->inexact |= type->inexact;
    int error = write_value(type->item, made, w);
    Py_DECREF(made);
    return error;
}

static int write_value(const node *type, PyObject *value, writer *w) {
    switch (type->kind) {
    case NUL: return value == Py_None ? 0 : unexpected("None", value);
    case BOOLEAN:
        if (PyBool_Check(value)) {
            uint8_t byte = value == Py_True;
            return write_raw(w, &byte, 1);
        }
        return write_code(type, value, w);
    case INT: case LONG: return write_integer(type, value, w);
    case FLOAT: case DOUBLE: return write_float(type, value, w);
    case BYTES:
        if (!PyBytes_CheckExact(value))
            return unexpected("bytes", value);
        if (write_number(w, PyBytes_GET_SIZE(value)))
            return -1;
        return write_raw(w, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    case STRING: return write_string(value, w);
    case FIXED:
        if (!PyBytes_CheckExact(value) || PyBytes_GET_SIZE(value) != type->count)
            return unexpected("bytes of the fixed size", value);
        return write_raw(w, PyBytes_AS_STRING(value), type->count);
    case ENUM: return write_code(type, value, w);
    case ARRAY: return write_array(type, value, w);
    case MAP: return write_map(type, value, w);
    case UNION: return write_union(type, value, w);
    case RECORD: return write_record(type, value, w);
    case CONVERTED: return write_converted(type, value, w);
    }
    Py_UNREACHABLE();
}

/* --- the program: what Python calls ------------------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030C0000
static PyObject *PyErr_GetRaisedException(void) {
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        PyException_SetTraceback(error, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
}
#endif

/* Where what was raised is one of the misfits, raises `explain(subject, it)` from it. */
static void explained(const program *self, PyObject *explain, PyObject *subject) {
    if (explain == NULL || !PyErr_ExceptionMatches(self->misfits))
        return;
    Py_INCREF(explain);
    PyObject *error = PyErr_GetRaisedException();
    PyObject *better = PyObject_CallFunctionObjArgs(explain, subject, error, NULL);
    if (better != NULL && !PyExceptionInstance_Check(better)) {
        PyErr_SetString(PyExc_TypeError, "an explanation must be an exception");
    }
    else if (better != NULL) {
        if (better != error) {
            PyException_SetCause(better, Py_NewRef(error));
            PyException_SetContext(better, Py_NewRef(error));
        }
        PyErr_SetObject((PyObject *)Py_TYPE(better), better);
    }
    Py_XDECREF(better);
    Py_DECREF(error);
    Py_DECREF(explain);
}

PyDoc_STRVAR(decode_doc, "decode($self, data, /)\n--\n\nThe value of one record with the header.");

static PyObject *program_decode(program *self, PyObject *data) {
    Py_ssize_t header = PyBytes_GET_SIZE(self->header);
    if (!PyBytes_CheckExact(data) || PyBytes_GET_SIZE(data) < header ||
        memcmp(PyBytes_AS_STRING(data), PyBytes_AS_STRING(self->header), (size_t)header)) {
        if (self->foreign == NULL) {
            misfit("not a record with the header");
            return NULL;
        }
        PyObject *foreign = Py_NewRef(self->foreign);
        PyObject *value = PyObject_CallOneArg(foreign, data);
        Py_DECREF(foreign);
        return value;
    }
    PyObject *value = read_all(self, data, header);
    if (value == NULL)
        explained(self, self->undecodable, data);
    return value;
}

static writer take_scratch(program *self) {
    writer w = {self->scratch, 0, self->scratch_size, 0};
    self->scratch = NULL;
    self->scratch_size = 0;
    return w;
}

static void give_back(program *self, const writer *w) {
    if (self->scratch == NULL && w->size <= SCRATCH_KEPT) {
        self->scratch = w->bytes;
        self->scratch_size = w->size;
    }
    else
        PyMem_Free(w->bytes);
}

PyDoc_STRVAR(encode_doc, "encode($self, value, /)\n--\n\nThe header and the value's bytes.");

static PyObject *program_encode(program *self, PyObject *value) {
    PyObject *data = NULL;
    writer w = take_scratch(self);
    if (write_raw(&w, PyBytes_AS_STRING(self->header), PyBytes_GET_SIZE(self->header)) == 0 &&
        write_value(&self->node[self->count - 1], value, &w) == 0)
        data = PyBytes_FromStringAndSize((const char *)w.bytes, w.used);
    give_back(self, &w);
    if (data == NULL)
        explained(self, self->unwritable, value);
    return data;
}

PyDoc_STRVAR(fit_doc, "fit($self, value, /)\n--\n\nThe value as it is read back; itself if nothing of it changes.");

static PyObject *program_fit(program *self, PyObject *value) {
    PyObject *fitting = NULL;
    const node *whole = &self->node[self->count - 1];
    writer w = take_scratch(self);
    if (write_value(whole, value, &w) == 0) {
        reader r = {w.bytes, w.bytes + w.used, (uint64_t)self->empty_items_max};
        fitting = w.inexact ? read_value(whole, &r) : Py_NewRef(value);
    }
    give_back(self, &w);
    if (fitting == NULL)
        explained(self, self->unwritable, value);
    return fitting;
}

/* --- building one ------------------------------------------------------------------------------------------------- */

static int ill_formed(const char *why) {
    PyErr_Format(PyExc_ValueError, "not a program: %s", why);
    return -1;
}

static int find(PyObject *name, const char *const *names) {
    for (int i = 0; names[i] != NULL; i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return i;
    return ill_formed("a name that it does not know");
}

/* The node at `place`, which must come before `n`. */
static const node *before(const program *self, node *n, Py_ssize_t place) {
    if (place < 0 || place >= n - self->node) {
        ill_formed("a node that does not stand before its user");
        return NULL;
    }
    const node *found = &self->node[place];
    if (n->depth <= found->depth)
        n->depth = found->depth + 1;
    return found;
}

/* The fewest bytes that a value takes; `smallest` of an array or a map says what an item takes. */
static Py_ssize_t fewest(const node *n) {
    return n->kind == ARRAY || n->kind == MAP ? 1 : n->smallest;
}

static int build_codes(node *n) {
    Py_ssize_t at = 0;
    PyObject *code;
    while (PyDict_Next(n->codes, &at, NULL, &code)) {
        long number = PyLong_Check(code) ? PyLong_AsLong(code) : -1;
        if (number < 0 || number >= n->count)
            return PyErr_Occurred() ? -1 : ill_formed("a code out of range");
    }
    return 0;
}

static int build_union(const program *self, node *n, PyObject *branches, PyObject *types) {
    n->count = PyTuple_GET_SIZE(branches);
    if (PyTuple_GET_SIZE(types) != n->count)
        return ill_formed("a union needs a class a branch");
    n->branches = PyMem_Calloc((size_t)n->count + 1, sizeof(node *));
    n->types = PyMem_Calloc((size_t)n->count + 1, sizeof(PyObject *));
    if (n->branches == NULL || n->types == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n->count; i++) {
        Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GET_ITEM(branches, i));
        if (place == -1 && PyErr_Occurred())
            return -1;
        if ((n->branches[i] = before(self, n, place)) == NULL)
            return -1;
        if (PyTuple_GET_ITEM(types, i) != Py_None)
            n->types[i] = PyTuple_GET_ITEM(types, i);
    }
    return 0;
}

/* Where in an instance the slot of that name lies. */
static Py_ssize_t slot_offset(PyTypeObject *cls, PyObject *name) {
    PyObject *slot = PyObject_GetAttr((PyObject *)cls, name);
    if (slot == NULL)
        return -1;
    Py_ssize_t offset = -1;
    if (Py_IS_TYPE(slot, &PyMemberDescr_Type) && PyDescr_TYPE(slot) == cls) {
        PyMemberDef *member = ((PyMemberDescrObject *)slot)->d_member;
        if (member->type == T_OBJECT_EX && !(member->flags & READONLY))
            offset = member->offset;
    }
    Py_DECREF(slot);
    return offset < 0 ? ill_formed("a field that is no slot") : offset;
}

static int build_record(const program *self, node *n, PyObject *how, PyObject *cls, PyObject *fields) {
    int found = find(how, HOWS);
    if (found < 0)
        return -1;
    n->how = (enum how)found;
    if ((n->how == NONE) != (cls == Py_None) || (cls != Py_None && !PyType_Check(cls)))
        return ill_formed("a record needs its class");
    n->cls = n->how == NONE ? NULL : (PyTypeObject *)cls;
    if (n->how == SLOTS && (n->cls->tp_alloc != PyType_GenericAlloc || n->cls->tp_new != PyBaseObject_Type.tp_new ||
                            n->cls->tp_itemsize != 0 || n->cls->tp_dictoffset != 0))
        return ill_formed("a class of slots with more to set up");
    if (n->how == TUPLE && (!PyType_IsSubtype(n->cls, &PyTuple_Type) || n->cls->tp_alloc != PyType_GenericAlloc ||
                            n->cls->tp_dictoffset != 0))
        return ill_formed("a tuple with more to set up");
    n->count = PyTuple_GET_SIZE(fields);
    n->fields = PyMem_Calloc((size_t)n->count + 1, sizeof(field));
    if (n->fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n->count; i++) {
        field *f = &n->fields[i];
        Py_ssize_t place;
        if (!PyTuple_Check(PyTuple_GET_ITEM(fields, i)))
            return ill_formed("a field must be a tuple");
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(fields, i), "Unn", &f->name, &place, &f->argument))
            return -1;
        if ((f->type = before(self, n, place)) == NULL)
            return -1;
        n->smallest += fewest(f->type);
        if (n->smallest > INT32_MAX)
            n->smallest = INT32_MAX;
        if (f->argument < 0)
            continue;
        n->arguments++;
        if (n->how == SLOTS && (f->offset = slot_offset(n->cls, f->name)) < 0)
            return -1;
    }
    for (Py_ssize_t i = 0; i < n->arguments; i++) { /* each must be set once, or memory is not */
        int set = 0;
        for (Py_ssize_t j = 0; j < n->count; j++)
            set += n->fields[j].argument == i;
        if (set != 1)
            return ill_formed("an argument that is not set once");
    }
    if (n->how == NONE && n->arguments)
        return ill_formed("arguments without a class");
    n->named = PyTuple_GET_SIZE(n->keywords);
    if (n->named > n->arguments)
        return ill_formed("more keywords than arguments");
    for (Py_ssize_t i = 0; i < n->named; i++)
        if (!PyUnicode_Check(PyTuple_GET_ITEM(n->keywords, i)))
            return ill_formed("a keyword must be a str");
    n->gc = n->how == CALL ? n->arguments > 0 : n->how != NONE && PyType_IS_GC(n->cls);
    return 0;
}

static int build_node(const program *self, node *n, PyObject *spec) {
    PyObject *kind, *how, *cls, *parts, *types;
    Py_ssize_t place;
    if (!PyTuple_Check(spec) || PyTuple_GET_SIZE(spec) == 0 || !PyUnicode_Check(PyTuple_GET_ITEM(spec, 0)))
        return ill_formed("a node must be a tuple that begins with its kind");
    int found = find(PyTuple_GET_ITEM(spec, 0), KINDS);
    if (found < 0)
        return -1;
    n->kind = (enum kind)found;
    n->smallest = n->kind == FLOAT ? 4 : n->kind == DOUBLE ? 8 : n->kind == NUL || n->kind == RECORD ? 0 : 1;
    switch (n->kind) {
    case FIXED:
        if (!PyArg_ParseTuple(spec, "Un", &kind, &n->count))
            return -1;
        if (n->count < 0 || n->count > INT32_MAX)
            return ill_formed("the size of a fixed");
        n->smallest = n->count;
        return 0;
    case BOOLEAN:
        n->count = 2;
        return PyArg_ParseTuple(spec, "UO!", &kind, &PyDict_Type, &n->codes) ? build_codes(n) : -1;
    case ENUM:
        if (!PyArg_ParseTuple(spec, "UO!O!", &kind, &PyTuple_Type, &n->symbols, &PyDict_Type, &n->codes))
            return -1;
        n->count = PyTuple_GET_SIZE(n->symbols);
        return build_codes(n);
    case ARRAY: case MAP:
        if (!PyArg_ParseTuple(spec, "Un", &kind, &place) || (n->item = before(self, n, place)) == NULL)
            return -1;
        n->smallest = fewest(n->item) + (n->kind == MAP); /* the length of its key */
        return 0;
    case UNION:
        if (!PyArg_ParseTuple(spec, "UO!O!", &kind, &PyTuple_Type, &parts, &PyTuple_Type, &types))
            return -1;
        return build_union(self, n, parts, types);
    case RECORD:
        if (!PyArg_ParseTuple(spec, "UUOO!O!", &kind, &how, &cls, &PyTuple_Type, &parts, &PyTuple_Type, &n->keywords))
            return -1;
        return build_record(self, n, how, cls, parts);
    case CONVERTED:
        if (!PyArg_ParseTuple(spec, "UnO!OOp", &kind, &place, &PyType_Type, &n->cls, &n->to_avro, &n->from_avro,
                              &n->inexact) ||
            (n->item = before(self, n, place)) == NULL)
            return -1;
        n->smallest = fewest(n->item);
        return 0;
    default: return 0;
    }
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *nodes, *header, *misfits, *foreign, *undecodable, *unwritable;
    Py_ssize_t empty_items_max;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Program takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!SnO!OOO", &PyTuple_Type, &nodes, &header, &empty_items_max, &PyTuple_Type, &misfits,
                          &foreign, &undecodable, &unwritable))
        return NULL;
    program *self = (program *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->nodes = Py_NewRef(nodes);
    self->header = Py_NewRef(header);
    self->misfits = Py_NewRef(misfits);
    self->foreign = Py_NewRef(foreign);
    self->undecodable = Py_NewRef(undecodable);
    self->unwritable = Py_NewRef(unwritable);
    self->empty_items_max = empty_items_max < 0 ? 0 : empty_items_max;
    Py_ssize_t count = PyTuple_GET_SIZE(nodes);
    self->node = PyMem_Calloc((size_t)count + 1, sizeof(node));
    if (self->node == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    for (; self->count < count; self->count++) {
        node *n = &self->node[self->count];
        int error = build_node(self, n, PyTuple_GET_ITEM(nodes, self->count));
        if (!error && n->depth > DEPTH_MAX) {
            PyErr_SetString(PyExc_RecursionError, "a schema nested too deep");
            error = -1;
        }
        if (error) {
            self->count++; /* for its arrays to be freed */
            goto failed;
        }
    }
    if (count == 0) {
        ill_formed("it is empty");
        goto failed;
    }
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static int program_traverse(program *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->nodes);
    Py_VISIT(self->misfits);
    Py_VISIT(self->foreign);
    Py_VISIT(self->undecodable);
    Py_VISIT(self->unwritable);
    return 0;
}

/* Only what it calls: a program that is garbage may still be called by another's finaliser. */
static int program_clear(program *self) {
    Py_CLEAR(self->foreign);
    Py_CLEAR(self->undecodable);
    Py_CLEAR(self->unwritable);
    return 0;
}

static void program_dealloc(program *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    program_clear(self);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        PyMem_Free(self->node[i].branches);
        PyMem_Free(self->node[i].types);
        PyMem_Free(self->node[i].fields);
    }
    PyMem_Free(self->node);
    PyMem_Free(self->scratch);
    Py_XDECREF(self->nodes);
    Py_XDECREF(self->header);
    Py_XDECREF(self->misfits);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef program_methods[] = {
    {"decode", (PyCFunction)program_decode, METH_O, decode_doc},
    {"encode", (PyCFunction)program_encode, METH_O, encode_doc},
    {"fit", (PyCFunction)program_fit, METH_O, fit_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot program_slots[] = {
    {Py_tp_doc, "A compiled schema; see the head of _native.c."},
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_traverse, program_traverse},
    {Py_tp_clear, program_clear},
    {Py_tp_methods, program_methods},
    {0, NULL},
};

static PyType_Spec program_spec = {
    .name = "pipeline.adapters.avro._native.Program",
    .basicsize = sizeof(program),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};

static int native_exec(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &program_spec, NULL);
    int error = type == NULL || PyModule_AddObjectRef(module, "Program", type);
    Py_XDECREF(type);
    return error ? -1 : 0;
}

static PyModuleDef_Slot native_slots[] = {{Py_mod_exec, native_exec}, {0, NULL}};

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pipeline.adapters.avro._native",
    .m_doc = "Avro to and from message classes.",
    .m_slots = native_slots,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&native_module);
}
