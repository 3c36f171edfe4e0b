// Compiles a compute shader in HLSL with Microsoft's compilers, as wgpu calls them; runs under Wine.
//
//   compile_hlsl.exe dxc|fxc FILE ENTRY LISTING
//
// dxc: shader model 6.0 by dxcompiler.dll. fxc: shader model 5.1 by d3dcompiler_47.dll. LISTING receives the disassembly.
// Prints the compiler's messages; the exit status is 0 where it compiles, 1 where it rejects, 2 where it cannot be run.
#define COBJMACROS
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

// ID3DBlob and IDxcBlob start with the same methods.
typedef struct Blob Blob;
typedef struct {
    HRESULT(WINAPI *query)(Blob *, const GUID *, void **);
    ULONG(WINAPI *add_ref)(Blob *);
    ULONG(WINAPI *release)(Blob *);
    void *(WINAPI *pointer)(Blob *);
    SIZE_T(WINAPI *size)(Blob *);
} BlobMethods;
struct Blob { BlobMethods *methods; };

// IDxcResult starts with the methods of IDxcOperationResult.
typedef struct Result Result;
typedef struct {
    HRESULT(WINAPI *query)(Result *, const GUID *, void **);
    ULONG(WINAPI *add_ref)(Result *);
    ULONG(WINAPI *release)(Result *);
    HRESULT(WINAPI *status)(Result *, HRESULT *);
    HRESULT(WINAPI *result)(Result *, Blob **);
    HRESULT(WINAPI *errors)(Result *, Blob **);
} ResultMethods;
struct Result { ResultMethods *methods; };

// DxcBuffer and IDxcCompiler3.
typedef struct { const void *pointer; SIZE_T size; UINT encoding; } Buffer;
typedef struct Compiler Compiler;
typedef struct {
    void *query, *add_ref, *release;
    HRESULT(WINAPI *compile)(Compiler *, const Buffer *, LPCWSTR *, UINT32, void *, const GUID *, void **);
    HRESULT(WINAPI *disassemble)(Compiler *, const Buffer *, const GUID *, void **);
} CompilerMethods;
struct Compiler { CompilerMethods *methods; };

static const GUID CLSID_DXC_COMPILER = { 0x73e22d93, 0xe6ce, 0x47f3, { 0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0 } };
static const GUID IID_DXC_COMPILER3 = { 0x228b4687, 0x5a6a, 0x4730, { 0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54 } };
static const GUID IID_DXC_RESULT = { 0x58346cda, 0xdde7, 0x4497, { 0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59 } };
static const UINT UTF8 = 65001, ENABLE_STRICTNESS = 1 << 11;

enum { OK, REJECTED, CANNOT_RUN };

static int cannot_run(const char *what, unsigned long code) {
    printf("cannot run: %s 0x%08lx\n", what, code);
    return CANNOT_RUN;
}

static void print_messages(Blob *messages) {
    if (messages && messages->methods->size(messages) > 1)
        printf("%.*s\n", (int)messages->methods->size(messages), (char *)messages->methods->pointer(messages));
}

static int write_listing(const char *path, Blob *text) {
    FILE *file = fopen(path, "wb");
    if (!file) return cannot_run(path, 0);
    fwrite(text->methods->pointer(text), 1, text->methods->size(text), file);
    return fclose(file) ? cannot_run(path, 0) : OK;
}

typedef HRESULT(WINAPI *D3DCompile)(const void *, SIZE_T, const char *, const void *, void *, const char *, const char *, UINT, UINT, Blob **, Blob **);
typedef HRESULT(WINAPI *D3DDisassemble)(const void *, SIZE_T, UINT, const char *, Blob **);

static int fxc(const char *source, SIZE_T length, const char *name, const char *entry, const char *listing) {
    HMODULE library = LoadLibraryA("d3dcompiler_47.dll");
    if (!library) return cannot_run("d3dcompiler_47.dll", GetLastError());
    D3DCompile compile = (D3DCompile)(void *)GetProcAddress(library, "D3DCompile");
    D3DDisassemble disassemble = (D3DDisassemble)(void *)GetProcAddress(library, "D3DDisassemble");
    if (!compile || !disassemble) return cannot_run("D3DCompile", GetLastError());
    Blob *code = NULL, *messages = NULL, *text = NULL;
    HRESULT status = compile(source, length, name, NULL, NULL, entry, "cs_5_1", ENABLE_STRICTNESS, 0, &code, &messages);
    print_messages(messages);
    if (status) return REJECTED;
    status = disassemble(code->methods->pointer(code), code->methods->size(code), 0, NULL, &text);
    return status ? cannot_run("D3DDisassemble", status) : write_listing(listing, text);
}

static int dxc(const char *source, SIZE_T length, const char *entry, const char *listing) {
    HMODULE library = LoadLibraryA("dxcompiler.dll");
    if (!library) return cannot_run("dxcompiler.dll", GetLastError());
    HRESULT(WINAPI * create)(const GUID *, const GUID *, void **) = (void *)GetProcAddress(library, "DxcCreateInstance");
    Compiler *compiler = NULL;
    HRESULT status = create ? create(&CLSID_DXC_COMPILER, &IID_DXC_COMPILER3, (void **)&compiler) : E_FAIL;
    if (status) return cannot_run("DxcCreateInstance", status);

    WCHAR wide_entry[128];
    MultiByteToWideChar(CP_UTF8, 0, entry, -1, wide_entry, 128);
    LPCWSTR arguments[] = { L"-E", wide_entry, L"-T", L"cs_6_0", L"-HV", L"2018", L"-no-warnings", L"-Qstrip_debug", L"-Qstrip_reflect", L"-Vd" };
    Buffer buffer = { source, length, UTF8 };
    Result *compiled = NULL, *disassembled = NULL;
    status = compiler->methods->compile(compiler, &buffer, arguments, sizeof arguments / sizeof *arguments, NULL, &IID_DXC_RESULT, (void **)&compiled);
    if (status) return cannot_run("IDxcCompiler3::Compile", status);
    Blob *messages = NULL, *code = NULL, *text = NULL;
    compiled->methods->errors(compiled, &messages);
    print_messages(messages);
    compiled->methods->status(compiled, &status);
    if (status) return REJECTED;

    compiled->methods->result(compiled, &code);
    Buffer object = { code->methods->pointer(code), code->methods->size(code), 0 };
    status = compiler->methods->disassemble(compiler, &object, &IID_DXC_RESULT, (void **)&disassembled);
    if (status) return cannot_run("IDxcCompiler3::Disassemble", status);
    disassembled->methods->result(disassembled, &text);
    return text ? write_listing(listing, text) : cannot_run("no disassembly", 0);
}

int main(int argc, char **argv) {
    if (argc != 5) return cannot_run("usage: compile_hlsl.exe dxc|fxc FILE ENTRY LISTING", 0);
    FILE *file = fopen(argv[2], "rb");
    if (!file) return cannot_run(argv[2], 0);
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    rewind(file);
    char *source = malloc(length);
    if (!source || fread(source, 1, length, file) != (size_t)length) return cannot_run(argv[2], 0);
    fclose(file);
    if (argv[1][0] == 'f') return fxc(source, length, argv[2], argv[3], argv[4]);
    return dxc(source, length, argv[3], argv[4]);
}
