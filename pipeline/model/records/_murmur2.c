/* The partitioner in C, as each record's key is looked at. It may differ in nothing from partitioning.py but in speed. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

static uint32_t murmur2(const unsigned char *data, Py_ssize_t size) {
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ (uint32_t)size;
    for (; size >= 4; data += 4, size -= 4) {
        uint32_t k = data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        k *= m;
        k = (k ^ (k >> 24)) * m;
        h = (h * m) ^ k;
    }
    if (size) {
        uint32_t rest = 0;
        while (size)
            rest = rest << 8 | data[--size];
        h = (h ^ rest) * m;
    }
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

static PyObject *partition_of(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 2 || !PyBytes_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "partition_of takes a key of bytes, and the number of partitions");
        return NULL;
    }
    long partitions = PyLong_AsLong(args[1]);
    if (partitions < 1 || partitions > INT32_MAX) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a topic has at least one partition");
        return NULL;
    }
    uint32_t hash = murmur2((const unsigned char *)PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0]));
    return PyLong_FromLong((long)((hash & 0x7fffffff) % (uint32_t)partitions));
}

static PyMethodDef methods[] = {
    {"partition_of", (PyCFunction)(void (*)(void))partition_of, METH_FASTCALL, "The partition of a key."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef murmur2_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pipeline.model.records._murmur2",
    .m_doc = "The partitioner of Kafka's Java clients.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__murmur2(void) {
    return PyModuleDef_Init(&murmur2_module);
}
