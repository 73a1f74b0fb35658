/* Stands in for libnvidia-ml.so.1 under the real pynvml: only what fleetbench asks.
 * FAKE_NVML_GPUS: how many (default 2). FAKE_NVML_NAME: of each. FAKE_NVML_USED: bytes of the second one's memory.
 * FAKE_NVML_FAIL: "symbol=code,symbol=code" makes calls return that code.
 * Each GPU draws 350 W, the second 360 W; its counter moves 5 J a call, so that a test can count. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Ret;
typedef struct { int index; unsigned long long energy_mj; } Gpu;
typedef union { double d; int si; unsigned ui; unsigned long ul; unsigned long long ull; } Value;
typedef struct {
    unsigned field, scope;
    long long at, latency;
    unsigned type;
    Ret ret;
    Value value;
} Field;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;

static Gpu gpus[8];

static Ret scripted(const char *symbol) {
    const char *script = getenv("FAKE_NVML_FAIL");
    const char *found = script ? strstr(script, symbol) : NULL;
    size_t size = strlen(symbol);
    return found && found[size] == '=' ? atoi(found + size + 1) : 0;
}
#define ANSWER(statement)              \
    do {                               \
        Ret code = scripted(__func__); \
        if (code) return code;         \
        statement;                     \
        return 0;                      \
    } while (0)

static unsigned count(void) {
    const char *said = getenv("FAKE_NVML_GPUS");
    return said ? (unsigned)atoi(said) : 2;
}
static const char *name(void) {
    const char *said = getenv("FAKE_NVML_NAME");
    return said ? said : "H100 (fake)";
}
static unsigned long long used(const Gpu *gpu) {
    const char *said = getenv("FAKE_NVML_USED");
    return said && gpu->index ? strtoull(said, NULL, 10) : 0;
}
static unsigned watts(const Gpu *gpu) { return 350u + 10u * (unsigned)gpu->index; }

Ret nvmlInitWithFlags(unsigned flags) { (void)flags; ANSWER(for (int i = 0; i < 8; i++) gpus[i].index = i); }
Ret nvmlShutdown(void) { return 0; }
Ret nvmlDeviceGetCount_v2(unsigned *n) { ANSWER(*n = count()); }
Ret nvmlDeviceGetHandleByIndex_v2(unsigned i, Gpu **gpu) { ANSWER(*gpu = &gpus[i]); }
Ret nvmlDeviceGetUUID(const Gpu *gpu, char *text, unsigned n) { ANSWER(snprintf(text, n, "GPU-%d", gpu->index)); }
Ret nvmlDeviceGetName(const Gpu *gpu, char *text, unsigned n) { (void)gpu; ANSWER(snprintf(text, n, "%s", name())); }
Ret nvmlSystemGetDriverVersion(char *text, unsigned n) { ANSWER(snprintf(text, n, "999.1")); }
Ret nvmlDeviceGetPowerUsage(const Gpu *gpu, unsigned *mw) { ANSWER(*mw = watts(gpu) * 1000 + 1000); }
Ret nvmlDeviceGetEnforcedPowerLimit(const Gpu *gpu, unsigned *mw) { (void)gpu; ANSWER(*mw = 700000); }
Ret nvmlDeviceGetTotalEnergyConsumption(Gpu *gpu, unsigned long long *mj) { ANSWER(*mj = gpu->energy_mj += 5000); }
Ret nvmlDeviceGetTemperature(const Gpu *gpu, int sensor, unsigned *c) { (void)sensor; ANSWER(*c = 55u + (unsigned)gpu->index); }
Ret nvmlDeviceGetClockInfo(const Gpu *gpu, int kind, unsigned *mhz) { (void)gpu; ANSWER(*mhz = kind == 1 ? 1980 : 2619); }
Ret nvmlDeviceGetMaxClockInfo(const Gpu *gpu, int kind, unsigned *mhz) { (void)gpu; ANSWER(*mhz = kind == 1 ? 1981 : 2620); }
Ret nvmlDeviceGetMemoryInfo(const Gpu *gpu, Memory *m) { (void)gpu; ANSWER(m->total = 80; m->free = m->used = 40); }
Ret nvmlDeviceGetMemoryInfo_v2(const Gpu *gpu, Memory2 *m) { ANSWER(m->total = 80ull << 30; m->reserved = 500ull << 20; m->used = used(gpu)); }
Ret nvmlDeviceGetEccMode(const Gpu *gpu, int *now, int *later) { (void)gpu; ANSWER(*now = *later = 1); }
Ret nvmlDeviceGetCurrentClocksEventReasons(const Gpu *gpu, unsigned long long *bits) { (void)gpu; ANSWER(*bits = 0x4 | 0x40); }
Ret nvmlDeviceGetFieldValues(const Gpu *gpu, int n, Field *fields) {
    ANSWER(for (int i = 0; i < n; i++) {
        fields[i].ret = fields[i].field == 186 ? 0 : 3;
        fields[i].type = 1;
        fields[i].value.ui = watts(gpu) * 1000;
    });
}
