/* The part of onnxruntime's binary interface that a compiled-model provider and its hosts use: names and places only.
 *
 * Restated for API version 24 (onnxruntime 1.24): its tables only ever grow at their end, so what stands here holds for every
 * later release, and for 1.23 as far as `ort_version_supported` says 23. What is not used is a gap of the right size; the
 * places are asserted at the end.
 */
#ifndef ORT_RKNN_EP_ORT_ABI_H
#define ORT_RKNN_EP_ORT_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORT_API_NEWEST = 24, ORT_API_OLDEST = 23 };

#define ORT_OPAQUE(name) typedef struct name name
ORT_OPAQUE(OrtAllocator);
ORT_OPAQUE(OrtEnv);
ORT_OPAQUE(OrtEpDevice);
ORT_OPAQUE(OrtEpGraphSupportInfo);
ORT_OPAQUE(OrtGraph);
ORT_OPAQUE(OrtHardwareDevice);
ORT_OPAQUE(OrtKernelContext);
ORT_OPAQUE(OrtKeyValuePairs);
ORT_OPAQUE(OrtLogger);
ORT_OPAQUE(OrtMemoryInfo);
ORT_OPAQUE(OrtModelMetadata);
ORT_OPAQUE(OrtNode);
ORT_OPAQUE(OrtNodeComputeContext);
ORT_OPAQUE(OrtOpAttr);
ORT_OPAQUE(OrtRunOptions);
ORT_OPAQUE(OrtSession);
ORT_OPAQUE(OrtSessionOptions);
ORT_OPAQUE(OrtStatus);
ORT_OPAQUE(OrtTensorTypeAndShapeInfo);
ORT_OPAQUE(OrtTypeInfo);
ORT_OPAQUE(OrtValue);
ORT_OPAQUE(OrtValueInfo);

typedef enum {
    ORT_OK = 0,
    ORT_FAIL = 1,
    ORT_INVALID_ARGUMENT = 2,
    ORT_NO_SUCHFILE = 3,
    ORT_ENGINE_ERROR = 5,
    ORT_NOT_IMPLEMENTED = 9,
    ORT_INVALID_GRAPH = 10,
    ORT_EP_FAIL = 11
} OrtErrorCode;

typedef enum { ORT_VERBOSE, ORT_INFO, ORT_WARNING, ORT_ERROR, ORT_FATAL } OrtLoggingLevel;
typedef enum { ORT_ATTR_UNDEFINED, ORT_ATTR_INT, ORT_ATTR_INTS, ORT_ATTR_FLOAT, ORT_ATTR_FLOATS, ORT_ATTR_STRING } OrtOpAttrType;
typedef enum { ORT_DEVICE_CPU, ORT_DEVICE_GPU, ORT_DEVICE_NPU } OrtHardwareDeviceType;
typedef enum { ORT_DEVICE_ALLOCATOR = 0, ORT_ARENA_ALLOCATOR = 1 } OrtAllocatorType;
typedef enum { ORT_MEMORY_DEFAULT = 0 } OrtMemType;
typedef enum {
    ORT_EP_NOT_APPLICABLE,
    ORT_EP_SUPPORTED_OPTIMAL,
    ORT_EP_SUPPORTED_PREFER_RECOMPILATION,
    ORT_EP_UNSUPPORTED
} OrtCompiledModelCompatibility;

typedef enum {
    ONNX_UNDEFINED,
    ONNX_FLOAT,
    ONNX_UINT8,
    ONNX_INT8,
    ONNX_UINT16,
    ONNX_INT16,
    ONNX_INT32,
    ONNX_INT64,
    ONNX_STRING,
    ONNX_BOOL,
    ONNX_FLOAT16,
    ONNX_DOUBLE,
    ONNX_UINT32,
    ONNX_UINT64
} ONNXTensorElementDataType;

typedef struct OrtEp OrtEp;
typedef struct OrtEpFactory OrtEpFactory;
typedef struct OrtNodeComputeInfo OrtNodeComputeInfo;

typedef struct {
    uint32_t ort_version_supported;
    bool drop_constant_initializers;
} OrtNodeFusionOptions;

typedef struct {
    OrtStatus *(*CreateEpDevice)(OrtEpFactory *, const OrtHardwareDevice *, const OrtKeyValuePairs *metadata,
                                 const OrtKeyValuePairs *options, OrtEpDevice **);
    void (*ReleaseEpDevice)(OrtEpDevice *);
    OrtStatus *(*EpGraphSupportInfo_AddNodesToFuse)(OrtEpGraphSupportInfo *, const OrtNode *const *, size_t,
                                                    const OrtNodeFusionOptions *);
    void *unused_3[13];
    OrtStatus *(*CreateHardwareDevice)(OrtHardwareDeviceType, uint32_t vendor_id, uint32_t device_id, const char *vendor,
                                       const OrtKeyValuePairs *metadata, OrtHardwareDevice **); /* since 24 */
    void (*ReleaseHardwareDevice)(OrtHardwareDevice *);                                         /* since 24 */
} OrtEpApi;

typedef struct {
    OrtStatus *(*CreateStatus)(OrtErrorCode code, const char *text);
    OrtErrorCode (*GetErrorCode)(const OrtStatus *);
    const char *(*GetErrorMessage)(const OrtStatus *);
    OrtStatus *(*CreateEnv)(OrtLoggingLevel, const char *log_id, OrtEnv **);
    void *unused_4[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **);
    void *unused_8[1];
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *input_names, const OrtValue *const
            *inputs, size_t, const char *const *output_names, size_t, OrtValue **outputs);
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);
    void *unused_11[38];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t bytes, const int64_t
            *dims, size_t rank, ONNXTensorElementDataType, OrtValue **);
    void *unused_50[1];
    OrtStatus *(*GetTensorMutableData)(OrtValue *, void **data);
    void *unused_52[3];
    OrtStatus *(*CastTypeInfoToTensorInfo)(const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **);
    void *unused_56[4];
    OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *, ONNXTensorElementDataType *);
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *rank);
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *dims, size_t rank);
    void *unused_63[2];
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **);
    void *unused_66[3];
    OrtStatus *(*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo **);
    void *unused_70[6];
    OrtStatus *(*AllocatorFree)(OrtAllocator *, void *);
    void *unused_77[1];
    OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **);
    void *unused_79[9];
    OrtStatus *(*KernelContext_GetInputCount)(const OrtKernelContext *, size_t *);
    OrtStatus *(*KernelContext_GetOutputCount)(const OrtKernelContext *, size_t *);
    OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *, size_t index, const OrtValue **);
    OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *, size_t index, const int64_t *dims, size_t rank,
            OrtValue **);
    void (*ReleaseEnv)(OrtEnv *);
    void (*ReleaseStatus)(OrtStatus *);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (*ReleaseSession)(OrtSession *);
    void (*ReleaseValue)(OrtValue *);
    void *unused_97[2];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *);
    void (*ReleaseSessionOptions)(OrtSessionOptions *);
    void *unused_101[15];
    OrtStatus *(*ModelMetadataLookupCustomMetadataMap)(const OrtModelMetadata *, OrtAllocator *, const char *key,
            char **value);
    void *unused_117[1];
    void (*ReleaseModelMetadata)(OrtModelMetadata *);
    void *unused_119[128];
    OrtStatus *(*Logger_LogMessage)(const OrtLogger *, OrtLoggingLevel, const char *text, const char *file, int
            line, const char *function);
    void *unused_248[24];
    OrtStatus *(*ReadOpAttr)(const OrtOpAttr *, OrtOpAttrType, void *data, size_t room, size_t *size);
    void *unused_273[16];
    OrtStatus *(*GetValueInfoName)(const OrtValueInfo *, const char **);
    OrtStatus *(*GetValueInfoTypeInfo)(const OrtValueInfo *, const OrtTypeInfo **);
    void *unused_291[4];
    void (*CreateKeyValuePairs)(OrtKeyValuePairs **);
    void (*AddKeyValuePair)(OrtKeyValuePairs *, const char *key, const char *value);
    const char *(*GetKeyValue)(const OrtKeyValuePairs *, const char *key);
    void (*GetKeyValuePairs)(const OrtKeyValuePairs *, const char *const **keys, const char *const **values, size_t
            *);
    void *unused_299[1];
    void (*ReleaseKeyValuePairs)(OrtKeyValuePairs *);
    OrtStatus *(*RegisterExecutionProviderLibrary)(OrtEnv *, const char *name, const char *path);
    OrtStatus *(*UnregisterExecutionProviderLibrary)(OrtEnv *, const char *name);
    OrtStatus *(*GetEpDevices)(const OrtEnv *, const OrtEpDevice *const **, size_t *);
    OrtStatus *(*SessionOptionsAppendExecutionProvider_V2)(OrtSessionOptions *, OrtEnv *, const OrtEpDevice *const
            *, size_t devices, const char *const *keys, const char *const *values, size_t options);
    void *unused_305[2];
    OrtHardwareDeviceType (*HardwareDevice_Type)(const OrtHardwareDevice *);
    void *unused_308[4];
    const char *(*EpDevice_EpName)(const OrtEpDevice *);
    void *unused_313[4];
    const OrtEpApi *(*GetEpApi)(void);
    void *unused_318[16];
    OrtStatus *(*Graph_GetModelPath)(const OrtGraph *, const char **);
    void *unused_335[9];
    OrtStatus *(*Graph_GetNumNodes)(const OrtGraph *, size_t *);
    OrtStatus *(*Graph_GetNodes)(const OrtGraph *, const OrtNode **, size_t);
    OrtStatus *(*Graph_GetParentNode)(const OrtGraph *, const OrtNode **);
    void *unused_347[2];
    OrtStatus *(*Node_GetName)(const OrtNode *, const char **);
    OrtStatus *(*Node_GetOperatorType)(const OrtNode *, const char **);
    OrtStatus *(*Node_GetDomain)(const OrtNode *, const char **);
    void *unused_352[1];
    OrtStatus *(*Node_GetNumInputs)(const OrtNode *, size_t *);
    OrtStatus *(*Node_GetInputs)(const OrtNode *, const OrtValueInfo **, size_t);
    OrtStatus *(*Node_GetNumOutputs)(const OrtNode *, size_t *);
    OrtStatus *(*Node_GetOutputs)(const OrtNode *, const OrtValueInfo **, size_t);
    void *unused_357[4];
    OrtStatus *(*Node_GetAttributeByName)(const OrtNode *, const char *name, const OrtOpAttr **);
    void *unused_362[16];
    OrtStatus *(*GetTensorData)(const OrtValue *, const void **data);
    OrtStatus *(*GetSessionOptionsConfigEntries)(const OrtSessionOptions *, OrtKeyValuePairs **);
    void *unused_380[7];
    OrtStatus *(*Graph_GetModelMetadata)(const OrtGraph *, OrtModelMetadata **);
} OrtApi;

typedef struct {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

struct OrtNodeComputeInfo {
    uint32_t ort_version_supported;
    OrtStatus *(*CreateState)(OrtNodeComputeInfo *, OrtNodeComputeContext *, void **state);
    OrtStatus *(*Compute)(OrtNodeComputeInfo *, void *state, OrtKernelContext *);
    void (*ReleaseState)(OrtNodeComputeInfo *, void *state);
};

struct OrtEp {
    uint32_t ort_version_supported;
    const char *(*GetName)(const OrtEp *);
    OrtStatus *(*GetCapability)(OrtEp *, const OrtGraph *, OrtEpGraphSupportInfo *);
    OrtStatus *(*Compile)(OrtEp *, const OrtGraph **, const OrtNode **fused, size_t, OrtNodeComputeInfo **, OrtNode **contexts);
    void (*ReleaseNodeComputeInfos)(OrtEp *, OrtNodeComputeInfo **, size_t);
    void *unused_5[10]; /* optional ones, up to IsConcurrentRunSupported: NULL says that it is */
};

struct OrtEpFactory {
    uint32_t ort_version_supported;
    const char *(*GetName)(const OrtEpFactory *);
    const char *(*GetVendor)(const OrtEpFactory *);
    OrtStatus *(*GetSupportedDevices)(OrtEpFactory *, const OrtHardwareDevice *const *, size_t, OrtEpDevice **, size_t room,
                                      size_t *);
    OrtStatus *(*CreateEp)(OrtEpFactory *, const OrtHardwareDevice *const *, const OrtKeyValuePairs *const *metadata, size_t,
                           const OrtSessionOptions *, const OrtLogger *, OrtEp **);
    void (*ReleaseEp)(OrtEpFactory *, OrtEp *);
    uint32_t (*GetVendorId)(const OrtEpFactory *);
    const char *(*GetVersion)(const OrtEpFactory *);
    OrtStatus *(*ValidateCompiledModelCompatibilityInfo)(OrtEpFactory *, const OrtHardwareDevice *const *, size_t,
                                                         const char *info, OrtCompiledModelCompatibility *);
    OrtStatus *(*CreateAllocator)(OrtEpFactory *, const OrtMemoryInfo *, const OrtKeyValuePairs *, OrtAllocator **);
    void (*ReleaseAllocator)(OrtEpFactory *, OrtAllocator *);
    OrtStatus *(*CreateDataTransfer)(OrtEpFactory *, void **);
    bool (*IsStreamAware)(const OrtEpFactory *);
    void *unused_13[6]; /* optional ones, up to GetCustomOpDomains */
};

#define ORT_SLOT(table, name, place) _Static_assert(offsetof(table, name) == (place) * sizeof(void *), #table "::" #name)
ORT_SLOT(OrtApi, CreateStatus, 0);
ORT_SLOT(OrtApi, GetErrorCode, 1);
ORT_SLOT(OrtApi, GetErrorMessage, 2);
ORT_SLOT(OrtApi, CreateEnv, 3);
ORT_SLOT(OrtApi, CreateSession, 7);
ORT_SLOT(OrtApi, Run, 9);
ORT_SLOT(OrtApi, CreateSessionOptions, 10);
ORT_SLOT(OrtApi, CreateTensorWithDataAsOrtValue, 49);
ORT_SLOT(OrtApi, GetTensorMutableData, 51);
ORT_SLOT(OrtApi, CastTypeInfoToTensorInfo, 55);
ORT_SLOT(OrtApi, GetTensorElementType, 60);
ORT_SLOT(OrtApi, GetDimensionsCount, 61);
ORT_SLOT(OrtApi, GetDimensions, 62);
ORT_SLOT(OrtApi, GetTensorTypeAndShape, 65);
ORT_SLOT(OrtApi, CreateCpuMemoryInfo, 69);
ORT_SLOT(OrtApi, AllocatorFree, 76);
ORT_SLOT(OrtApi, GetAllocatorWithDefaultOptions, 78);
ORT_SLOT(OrtApi, KernelContext_GetInputCount, 88);
ORT_SLOT(OrtApi, KernelContext_GetOutputCount, 89);
ORT_SLOT(OrtApi, KernelContext_GetInput, 90);
ORT_SLOT(OrtApi, KernelContext_GetOutput, 91);
ORT_SLOT(OrtApi, ReleaseEnv, 92);
ORT_SLOT(OrtApi, ReleaseStatus, 93);
ORT_SLOT(OrtApi, ReleaseMemoryInfo, 94);
ORT_SLOT(OrtApi, ReleaseSession, 95);
ORT_SLOT(OrtApi, ReleaseValue, 96);
ORT_SLOT(OrtApi, ReleaseTensorTypeAndShapeInfo, 99);
ORT_SLOT(OrtApi, ReleaseSessionOptions, 100);
ORT_SLOT(OrtApi, ModelMetadataLookupCustomMetadataMap, 116);
ORT_SLOT(OrtApi, ReleaseModelMetadata, 118);
ORT_SLOT(OrtApi, Logger_LogMessage, 247);
ORT_SLOT(OrtApi, ReadOpAttr, 272);
ORT_SLOT(OrtApi, GetValueInfoName, 289);
ORT_SLOT(OrtApi, GetValueInfoTypeInfo, 290);
ORT_SLOT(OrtApi, CreateKeyValuePairs, 295);
ORT_SLOT(OrtApi, AddKeyValuePair, 296);
ORT_SLOT(OrtApi, GetKeyValue, 297);
ORT_SLOT(OrtApi, GetKeyValuePairs, 298);
ORT_SLOT(OrtApi, ReleaseKeyValuePairs, 300);
ORT_SLOT(OrtApi, RegisterExecutionProviderLibrary, 301);
ORT_SLOT(OrtApi, UnregisterExecutionProviderLibrary, 302);
ORT_SLOT(OrtApi, GetEpDevices, 303);
ORT_SLOT(OrtApi, SessionOptionsAppendExecutionProvider_V2, 304);
ORT_SLOT(OrtApi, HardwareDevice_Type, 307);
ORT_SLOT(OrtApi, EpDevice_EpName, 312);
ORT_SLOT(OrtApi, GetEpApi, 317);
ORT_SLOT(OrtApi, Graph_GetModelPath, 334);
ORT_SLOT(OrtApi, Graph_GetNumNodes, 344);
ORT_SLOT(OrtApi, Graph_GetNodes, 345);
ORT_SLOT(OrtApi, Graph_GetParentNode, 346);
ORT_SLOT(OrtApi, Node_GetName, 349);
ORT_SLOT(OrtApi, Node_GetOperatorType, 350);
ORT_SLOT(OrtApi, Node_GetDomain, 351);
ORT_SLOT(OrtApi, Node_GetNumInputs, 353);
ORT_SLOT(OrtApi, Node_GetInputs, 354);
ORT_SLOT(OrtApi, Node_GetNumOutputs, 355);
ORT_SLOT(OrtApi, Node_GetOutputs, 356);
ORT_SLOT(OrtApi, Node_GetAttributeByName, 361);
ORT_SLOT(OrtApi, GetTensorData, 378);
ORT_SLOT(OrtApi, GetSessionOptionsConfigEntries, 379);
ORT_SLOT(OrtApi, Graph_GetModelMetadata, 387);
ORT_SLOT(OrtEpApi, EpGraphSupportInfo_AddNodesToFuse, 2);
ORT_SLOT(OrtEpApi, ReleaseHardwareDevice, 17);
ORT_SLOT(OrtNodeComputeInfo, ReleaseState, 3);
ORT_SLOT(OrtEp, ReleaseNodeComputeInfos, 4);
ORT_SLOT(OrtEpFactory, IsStreamAware, 12);
_Static_assert(sizeof(OrtEp) == 15 * sizeof(void *), "OrtEp");
_Static_assert(sizeof(OrtEpFactory) == 19 * sizeof(void *), "OrtEpFactory");

#endif
