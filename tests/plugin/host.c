/* A program in C on onnxruntime's own shared library: host PLUGIN MODEL THREADS RUNS. The model takes x float[1,3,6,5] and gives
 * y; every run must give the same bytes for the same input. Prints them (hexadecimal) for the input 0, 1, 2 ... */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep/ort_abi.h"

const OrtApiBase *OrtGetApiBase(void);

enum { IN = 1 * 3 * 6 * 5, OUT = 1 * 4 * 6 * 5, KINDS = 4 };

static const OrtApi *api;
static OrtSession *session;
static OrtMemoryInfo *memory;
static float answers[KINDS][OUT];
static int runs, wrong;

static void check(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "error %d: %s\n", api->GetErrorCode(status), api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    exit(1);
}

static void run(int kind, float out[OUT]) {
    static const int64_t dims[] = {1, 3, 6, 5};
    static const char *const in_names[] = {"x"}, *const out_names[] = {"y"};
    float x[IN];
    void *data;
    OrtValue *in = NULL, *result = NULL;
    for (int i = 0; i < IN; i++) x[i] = (float)(i + kind);
    check(api->CreateTensorWithDataAsOrtValue(memory, x, sizeof x, dims, 4, ONNX_FLOAT, &in));
    check(api->Run(session, NULL, in_names, (const OrtValue *const *)&in, 1, out_names, 1, &result));
    check(api->GetTensorMutableData(result, &data));
    memcpy(out, data, OUT * sizeof *out);
    api->ReleaseValue(in);
    api->ReleaseValue(result);
}

static void *many(void *number) {
    float out[OUT];
    for (int i = 0; i < runs; i++) {
        int kind = (int)((i + (intptr_t)number) % KINDS);
        run(kind, out);
        if (memcmp(out, answers[kind], sizeof out)) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count < 5) return 2;
    api = OrtGetApiBase()->GetApi(ORT_API_OLDEST);
    OrtEnv *env = NULL;
    OrtSessionOptions *options = NULL;
    const OrtEpDevice *const *devices;
    size_t n = 0;
    check(api->CreateEnv(ORT_ERROR, "host", &env));
    check(api->CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &memory));
    for (int round = 0; round < 2; round++) {
        check(api->RegisterExecutionProviderLibrary(env, "rknn", arguments[1]));
        check(api->GetEpDevices(env, &devices, &n));
        const OrtEpDevice *npu = NULL;
        for (size_t i = 0; i < n; i++)
            if (!strcmp(api->EpDevice_EpName(devices[i]), "RKNNExecutionProvider")) npu = devices[i];
        if (!npu) return fprintf(stderr, "no NPU\n"), 3;
        check(api->CreateSessionOptions(&options));
        check(api->SessionOptionsAppendExecutionProvider_V2(options, env, &npu, 1, NULL, NULL, 0));
        check(api->CreateSession(env, arguments[2], options, &session));
        for (int i = 0; i < KINDS; i++) run(i, answers[i]);
        pthread_t threads[64];
        int n_threads = atoi(arguments[3]);
        runs = atoi(arguments[4]);
        for (intptr_t i = 0; i < n_threads && i < 64; i++) pthread_create(&threads[i], NULL, many, (void *)i);
        for (int i = 0; i < n_threads && i < 64; i++) pthread_join(threads[i], NULL);
        api->ReleaseSession(session);
        api->ReleaseSessionOptions(options);
        check(api->UnregisterExecutionProviderLibrary(env, "rknn"));
    }
    for (size_t i = 0; i < sizeof answers[0]; i++) printf("%02x", ((unsigned char *)answers[0])[i]);
    printf("\n");
    api->ReleaseMemoryInfo(memory);
    api->ReleaseEnv(env);
    return wrong ? 4 : 0;
}
