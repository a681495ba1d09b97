// Kernels by handle: aclrtBinary..., aclrtLaunchKernel... and runtime compilation (aclrtc). A
// binary is a shared library that `xcompile simcc -shared` built.
#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>

#include "acl/acl_rt_compile.h"
#include "host.h"

namespace ascsim {

namespace {

struct Binary {
  std::string data;
};

struct Arguments {
  const RegisteredKernel* kernel;
  std::vector<std::string> values;
};

struct Program {
  std::string source, name, log, binary;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::string> names;
  bool compiled = false;
};

std::set<Program*>& programs() {
  static auto& all = *new std::set<Program*>;
  return all;
}

std::string temporaryFolder() {
  const char* base = std::getenv("TMPDIR");
  std::string path = std::string(base != nullptr ? base : "/tmp") + "/ascsim-XXXXXX";
  return mkdtemp(path.data()) != nullptr ? path : std::string();
}

void removeFolder(const std::string& folder, const std::vector<std::string>& files) {
  for (const std::string& f : files) std::remove((folder + "/" + f).c_str());
  rmdir(folder.c_str());
}

bool writeFile(const std::string& path, const std::string& data) {
  std::ofstream out(path, std::ios::binary);
  out.write(data.data(), static_cast<std::streamsize>(data.size()));
  return out.good();
}

std::string readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

aclError openLibrary(const char* api, const std::string& path, aclrtBinHandle* handle) {
  const int module = newModule();
  loadingModule(module);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // registers its kernels
  loadingModule(0);
  if (library == nullptr) {
    return refuse(ACL_ERROR_INVALID_FILE, api,
                  "not a kernel library that xcompile simcc -shared built: %s", dlerror());
  }
  *handle = new int(module);  // as the library, it stays
  return ACL_SUCCESS;
}

// Launches with one pointer to each argument's value.
aclError launchValues(const char* api, aclrtFuncHandle function, uint32_t blocks,
                      aclrtStream stream, const std::vector<const void*>& values) {
  const auto* kernel = static_cast<const RegisteredKernel*>(function);
  if (kernel == nullptr) return refuse(ACL_ERROR_RT_PARAM_INVALID, api, "the function is null");
  std::vector<ArgValue> args;
  for (size_t i = 0; i < kernel->params.size(); ++i) {
    if (i >= values.size() || values[i] == nullptr) {
      return refuse(ACL_ERROR_RT_PARAM_INVALID, api, "argument %zu of kernel %s is missing", i,
                    kernel->name.c_str());
    }
    args.push_back({kernel->params[i].code, kernel->params[i].size, values[i]});
  }
  return static_cast<aclError>(launchRegistered(*kernel, blocks, stream, args));
}

// Arguments that follow one another in one block, each at a multiple of its size.
aclError launchBlock(const char* api, aclrtFuncHandle function, uint32_t blocks, aclrtStream stream,
                     const void* block, size_t bytes) {
  const auto* kernel = static_cast<const RegisteredKernel*>(function);
  if (kernel == nullptr) return refuse(ACL_ERROR_RT_PARAM_INVALID, api, "the function is null");
  std::vector<const void*> values;
  size_t at = 0;
  for (const ParamType& p : kernel->params) {
    const size_t alignment = p.code == 's' ? 8 : p.size;
    at = (at + alignment - 1) / alignment * alignment;
    if (block == nullptr || at + p.size > bytes) {
      return refuse(ACL_ERROR_RT_PARAM_INVALID, api,
                    "%zu bytes of arguments are too few for kernel %s", bytes,
                    kernel->name.c_str());
    }
    values.push_back(static_cast<const char*>(block) + at);
    at += p.size;
  }
  return launchValues(api, function, blocks, stream, values);
}

int runCommand(const std::vector<std::string>& words, const std::string& log) {
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen(log.c_str(), "w", stdout) == nullptr) _exit(126);
    dup2(fileno(stdout), STDERR_FILENO);
    std::vector<char*> argv;
    for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    std::fprintf(stderr, "cannot run %s: put xcompile on the PATH or set XC_SIMCC\n", argv[0]);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) < 0) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Program* program(aclrtcProg handle) {
  auto* p = static_cast<Program*>(handle);
  return programs().count(p) != 0 ? p : nullptr;
}

}  // namespace

}  // namespace ascsim

// NOLINTBEGIN(readability-identifier-naming): the names are given
using namespace ascsim;

extern "C" {

aclError aclrtBinaryLoadFromFile(const char* path, aclrtBinaryLoadOptions*,
                                 aclrtBinHandle* handle) {
  const Lock lock(hostMutex());
  if (path == nullptr || handle == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtBinaryLoadFromFile", "a null argument");
  }
  const std::string full = path[0] == '/' ? path : std::string("./") + path;
  return openLibrary("aclrtBinaryLoadFromFile", full, handle);
}

aclError aclrtBinaryLoadFromData(const void* data, size_t length, const aclrtBinaryLoadOptions*,
                                 aclrtBinHandle* handle) {
  const Lock lock(hostMutex());
  if (data == nullptr || handle == nullptr || length == 0) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtBinaryLoadFromData", "no data");
  }
  const std::string folder = temporaryFolder();
  const std::string path = folder + "/kernels.so";
  if (folder.empty() || !writeFile(path, {static_cast<const char*>(data), length})) {
    return refuse(ACL_ERROR_RT_INTERNAL_ERROR, "aclrtBinaryLoadFromData", "cannot write %s",
                  path.c_str());
  }
  const aclError result = openLibrary("aclrtBinaryLoadFromData", path, handle);
  removeFolder(folder, {"kernels.so"});
  return result;
}

aclrtBinary aclrtCreateBinary(const void* data, size_t length) {
  if (data == nullptr) return nullptr;
  return new Binary{{static_cast<const char*>(data), length}};
}

aclError aclrtDestroyBinary(aclrtBinary binary) {
  delete static_cast<Binary*>(binary);
  return ACL_SUCCESS;
}

aclError aclrtBinaryLoad(const aclrtBinary binary, aclrtBinHandle* handle) {
  if (binary == nullptr) return ACL_ERROR_INVALID_PARAM;
  const std::string& data = static_cast<const Binary*>(binary)->data;
  return aclrtBinaryLoadFromData(data.data(), data.size(), nullptr, handle);
}

// The library stays mapped: queued launches and reports still point into it.
aclError aclrtBinaryUnLoad(aclrtBinHandle handle) {
  return handle != nullptr
             ? ACL_SUCCESS
             : refuse(ACL_ERROR_INVALID_PARAM, "aclrtBinaryUnLoad", "the handle is null");
}

aclError aclrtBinaryGetFunction(const aclrtBinHandle handle, const char* name,
                                aclrtFuncHandle* function) {
  const Lock lock(hostMutex());
  if (handle == nullptr || name == nullptr || function == nullptr) {
    return refuse(ACL_ERROR_INVALID_PARAM, "aclrtBinaryGetFunction", "a null argument");
  }
  const RegisteredKernel* kernel = findKernel(name, *static_cast<int*>(handle));
  if (kernel == nullptr) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtBinaryGetFunction", "no kernel %s", name);
  }
  *function = const_cast<RegisteredKernel*>(kernel);
  return ACL_SUCCESS;
}

aclError aclrtBinaryGetFunctionByEntry(aclrtBinHandle, uint64_t entry, aclrtFuncHandle*) {
  return refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "aclrtBinaryGetFunctionByEntry",
                "kernels have names here, no entries (%llu): use aclrtBinaryGetFunction",
                static_cast<unsigned long long>(entry));
}

aclError aclrtLaunchKernel(aclrtFuncHandle function, uint32_t blocks, const void* args, size_t size,
                           aclrtStream stream) {
  return launchBlock("aclrtLaunchKernel", function, blocks, stream, args, size);
}

aclError aclrtLaunchKernelWithArgsArray(aclrtFuncHandle function, uint32_t blocks,
                                        aclrtStream stream, aclrtLaunchKernelCfg*, void** args) {
  const auto* kernel = static_cast<const RegisteredKernel*>(function);
  std::vector<const void*> values;
  if (kernel != nullptr && args != nullptr) {
    values.assign(args, args + kernel->params.size());
  }
  return launchValues("aclrtLaunchKernelWithArgsArray", function, blocks, stream, values);
}

aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle function, uint32_t blocks,
                                       aclrtStream stream, aclrtLaunchKernelCfg*, void* args,
                                       size_t size, aclrtPlaceHolderInfo*, size_t placeHolders) {
  if (placeHolders != 0) {
    return refuse(ACL_ERROR_RT_FEATURE_NOT_SUPPORT, "aclrtLaunchKernelWithHostArgs",
                  "placeholders are not simulated");
  }
  return launchBlock("aclrtLaunchKernelWithHostArgs", function, blocks, stream, args, size);
}

aclError aclrtKernelArgsInit(aclrtFuncHandle function, aclrtArgsHandle* args) {
  if (function == nullptr || args == nullptr) return ACL_ERROR_INVALID_PARAM;
  *args = new Arguments{static_cast<const RegisteredKernel*>(function), {}};
  return ACL_SUCCESS;
}

aclError aclrtKernelArgsAppend(aclrtArgsHandle args, void* param, size_t size, aclrtParamHandle*) {
  auto* a = static_cast<Arguments*>(args);
  if (a == nullptr || param == nullptr) return ACL_ERROR_INVALID_PARAM;
  const size_t i = a->values.size();
  if (i >= a->kernel->params.size() || a->kernel->params[i].size != size) {
    return refuse(ACL_ERROR_RT_PARAM_INVALID, "aclrtKernelArgsAppend",
                  "argument %zu of kernel %s does not have %zu bytes", i, a->kernel->name.c_str(),
                  size);
  }
  a->values.emplace_back(static_cast<const char*>(param), size);
  return ACL_SUCCESS;
}

aclError aclrtKernelArgsFinalize(aclrtArgsHandle args) {
  return args != nullptr ? ACL_SUCCESS : ACL_ERROR_INVALID_PARAM;
}

aclError aclrtLaunchKernelWithConfig(aclrtFuncHandle function, uint32_t blocks, aclrtStream stream,
                                     aclrtLaunchKernelCfg*, aclrtArgsHandle args, void*) {
  const auto* a = static_cast<const Arguments*>(args);
  std::vector<const void*> values;
  if (a != nullptr) {
    for (const std::string& v : a->values) values.push_back(v.data());
  }
  return launchValues("aclrtLaunchKernelWithConfig", function, blocks, stream, values);
}

// ------------------------------------------------------------------------------ runtime
// compilation
aclError aclrtcCreateProg(aclrtcProg* prog, const char* src, const char* name, int numHeaders,
                          const char** headers, const char** includeNames) {
  const Lock lock(hostMutex());
  if (prog == nullptr || src == nullptr || numHeaders < 0 ||
      (numHeaders > 0 && (headers == nullptr || includeNames == nullptr))) {
    return refuse(ACL_ERROR_RTC_INVALID_INPUT, "aclrtcCreateProg", "a null argument");
  }
  auto* p = new Program;
  p->source = src;
  p->name = name != nullptr ? name : "default_program";
  for (int i = 0; i < numHeaders; ++i) p->headers.emplace_back(includeNames[i], headers[i]);
  programs().insert(p);
  *prog = p;
  return ACL_SUCCESS;
}

aclError aclrtcDestroyProg(aclrtcProg* prog) {
  const Lock lock(hostMutex());
  Program* p = prog != nullptr ? program(*prog) : nullptr;
  if (p == nullptr) return decline(ACL_ERROR_RTC_INVALID_PROG, "aclrtcDestroyProg", "no program");
  programs().erase(p);
  delete p;
  *prog = nullptr;
  return ACL_SUCCESS;
}

aclError aclrtcAddNameExpr(aclrtcProg prog, const char* const expression) {
  Program* p = program(prog);
  if (p == nullptr) return decline(ACL_ERROR_RTC_INVALID_PROG, "aclrtcAddNameExpr", "no program");
  if (expression == nullptr) return ACL_ERROR_RTC_NAME_EXPR_NOT_VALID;
  if (p->compiled) return ACL_ERROR_RTC_NO_NAME_EXPR_AFTER_COMPILATION;
  std::string name = expression;
  name.erase(0, name.find_first_not_of(" &"));
  p->names.push_back(name);
  return ACL_SUCCESS;
}

aclError aclrtcCompileProg(aclrtcProg prog, int numOptions, const char** options) {
  Program* p = program(prog);
  if (p == nullptr) return decline(ACL_ERROR_RTC_INVALID_PROG, "aclrtcCompileProg", "no program");
  const std::string folder = temporaryFolder();
  std::string source = p->source + "\n";
  for (size_t i = 0; i < p->names.size(); ++i) {
    source += "[[maybe_unused]] static const bool ascsimNamed" + std::to_string(i) +
              " = ::ascsim::registerKernel(\"" + p->names[i] + "\", &" + p->names[i] + ");\n";
  }
  std::string file = p->name.substr(p->name.rfind('/') + 1);
  if (file.size() < 4 || file.compare(file.size() - 4, 4, ".asc") != 0) file += ".asc";
  std::vector<std::string> files = {file, "kernels.so", "log"};
  bool written = !folder.empty() && writeFile(folder + "/" + file, source);
  for (const auto& [name, text] : p->headers) {
    written =
        written && name.find('/') == std::string::npos && writeFile(folder + "/" + name, text);
    files.push_back(name);
  }
  if (!written) {
    return refuse(ACL_ERROR_RTC_FAILURE, "aclrtcCompileProg", "cannot write the sources");
  }
  const char* command = std::getenv("XC_SIMCC");
  std::istringstream split(command != nullptr ? command : "xcompile simcc");
  std::vector<std::string> words;
  for (std::string w; split >> w;) words.push_back(w);
  for (const std::string& w : {std::string("-shared"), std::string("-o"), folder + "/kernels.so",
                               "-I" + folder, folder + "/" + file}) {
    words.push_back(w);
  }
  for (int i = 0; i < numOptions; ++i) words.emplace_back(options[i]);
  const int status = runCommand(words, folder + "/log");
  p->log = readFile(folder + "/log");
  p->binary = status == 0 ? readFile(folder + "/kernels.so") : std::string();
  p->compiled = status == 0;
  removeFolder(folder, files);
  if (status != 0) {
    return decline(ACL_ERROR_RTC_COMPILATION, "aclrtcCompileProg", "%s", p->log.c_str());
  }
  return ACL_SUCCESS;
}

aclError aclrtcGetLoweredName(aclrtcProg prog, const char* expression, const char** lowered) {
  Program* p = program(prog);
  if (p == nullptr)
    return decline(ACL_ERROR_RTC_INVALID_PROG, "aclrtcGetLoweredName", "no program");
  if (expression == nullptr || lowered == nullptr) return ACL_ERROR_RTC_INVALID_INPUT;
  if (!p->compiled) return ACL_ERROR_RTC_NO_LOWERED_NAMES_BEFORE_COMPILATION;
  std::string name = expression;
  name.erase(0, name.find_first_not_of(" &"));
  for (const std::string& known : p->names) {
    if (known == name) {
      *lowered = known.c_str();
      return ACL_SUCCESS;
    }
  }
  return decline(ACL_ERROR_RTC_NAME_EXPR_NOT_VALID, "aclrtcGetLoweredName",
                 "%s was not given to aclrtcAddNameExpr", expression);
}

aclError aclrtcGetBinDataSize(aclrtcProg prog, size_t* size) {
  Program* p = program(prog);
  if (p == nullptr)
    return decline(ACL_ERROR_RTC_INVALID_PROG, "aclrtcGetBinDataSize", "no program");
  if (size == nullptr) return ACL_ERROR_RTC_INVALID_INPUT;
  *size = p->binary.size();
  return ACL_SUCCESS;
}

aclError aclrtcGetBinData(aclrtcProg prog, char* data) {
  Program* p = program(prog);
  if (p == nullptr) return decline(ACL_ERROR_RTC_INVALID_PROG, "aclrtcGetBinData", "no program");
  if (data == nullptr) return ACL_ERROR_RTC_INVALID_INPUT;
  p->binary.copy(data, p->binary.size());
  return ACL_SUCCESS;
}

aclError aclrtcGetCompileLogSize(aclrtcProg prog, size_t* size) {
  Program* p = program(prog);
  if (p == nullptr || size == nullptr) return ACL_ERROR_RTC_INVALID_PROG;
  *size = p->log.size() + 1;
  return ACL_SUCCESS;
}

aclError aclrtcGetCompileLog(aclrtcProg prog, char* log) {
  Program* p = program(prog);
  if (p == nullptr || log == nullptr) return ACL_ERROR_RTC_INVALID_PROG;
  p->log.copy(log, p->log.size());
  log[p->log.size()] = '\0';
  return ACL_SUCCESS;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
