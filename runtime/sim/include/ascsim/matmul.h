// The Matmul object of a kernel (docs: high-level API, matrix computation, kernel side).
//
// On the device a vector core of a mixed kernel sends each call as a message to the cube core of
// its group, which serves them after REGIST_MATMUL_OBJ; here the call runs as that cube core at
// once (AsCube), and its results are ordered where the call, or the wait that belongs to it,
// returns. With ASCENDC_CUBE_ONLY the cube core calls the object itself.
#pragma once
#include "ascsim/matmul_traits.h"

namespace AscendC {

template <bool kClient, class A_TYPE, class B_TYPE, class C_TYPE, class BIAS_TYPE,
          const auto& MM_CFG, class MM_CB,
          template <const auto&, class, class, class, class, class> class MATMUL_POLICY>
class MatmulObject {
  static_assert(ascsim::mm::supportedTypes<A_TYPE, B_TYPE, C_TYPE, BIAS_TYPE>(),
                "Matmul: this combination of the element types of A, B, C and bias does not exist "
                "on this chip");
  static_assert(A_TYPE::format != CubeFormat::COLUMN_MAJOR &&
                    B_TYPE::format != CubeFormat::COLUMN_MAJOR &&
                    C_TYPE::format != CubeFormat::COLUMN_MAJOR,
                "Matmul: CubeFormat::COLUMN_MAJOR is of the 950");
  static_assert(!ascsim::mm::configOf(MM_CFG).intraBlockPartSum,
                "Matmul: intraBlockPartSum is not supported by this chip");
  static_assert(!ascsim::mm::configOf(MM_CFG).enableRelu, "Matmul: enableRelu is of the 950");
  static_assert(!ascsim::mm::configOf(MM_CFG).isCO1Shared, "Matmul: isCO1Shared is of the 950");
  static_assert(!ascsim::mm::configOf(MM_CFG).isEnableChannelSplit ||
                    (C_TYPE::format == CubeFormat::NZ && std::is_same_v<typename C_TYPE::T, float>),
                "Matmul: isEnableChannelSplit needs a C of float in NZ format");
  static_assert(C_TYPE::pos != TPosition::CO1 || (C_TYPE::format == CubeFormat::NZ &&
                                                  (std::is_same_v<typename C_TYPE::T, float> ||
                                                   std::is_same_v<typename C_TYPE::T, int32_t>)),
                "Matmul: C at TPosition::CO1 is NZ of float or int32_t");

 public:
  using SrcAT = typename A_TYPE::T;
  using SrcBT = typename B_TYPE::T;
  using DstT = typename C_TYPE::T;
  using BiasT = typename BIAS_TYPE::T;
  using SrcT = SrcAT;

  MatmulObject() : engine_(desc()) {}

  void Init(const TCubeTiling* __restrict cubeTiling, TPipe* tpipe = nullptr,
            Loc loc = Loc::current()) {
    ascsim::Api api("Matmul::Init", loc);
    engine_.init(cubeTiling, tpipe);
  }
  void SetOrgShape(int orgM, int orgN, int orgK, Loc loc = Loc::current()) {
    SetOrgShape(orgM, orgN, orgK, orgK, 0, loc);
  }
  void SetOrgShape(int orgM, int orgN, int orgKa, int orgKb, int orgKc = 0,
                   Loc loc = Loc::current()) {
    ascsim::Api api("SetOrgShape", loc);
    engine_.setOrgShape(orgM, orgN, orgKa, orgKb, orgKc);
  }
  void SetSingleShape(int singleM, int singleN, int singleK, Loc loc = Loc::current()) {
    ascsim::Api api("SetSingleShape", loc);
    engine_.setSingleShape(singleM, singleN, singleK);
  }
  void SetTail(int tailM = -1, int tailN = -1, int tailK = -1, Loc loc = Loc::current()) {
    ascsim::Api api("SetTail", loc);
    engine_.setSingleShape(tailM, tailN, tailK);
  }
  void SetTensorA(const GlobalTensor<SrcAT>& gm, bool isTransposeA = false,
                  Loc loc = Loc::current()) {
    ascsim::Api api("SetTensorA", loc);
    engine_.setA(with(ascsim::mm::sourceOf(gm), isTransposeA));
  }
  void SetTensorA(const LocalTensor<SrcAT>& leftMatrix, bool isTransposeA = false,
                  Loc loc = Loc::current()) {
    ascsim::Api api("SetTensorA", loc);
    engine_.setA(with(ascsim::mm::sourceOf(leftMatrix), isTransposeA));
  }
  void SetTensorA(SrcAT aScalar, Loc loc = Loc::current()) {
    ascsim::Api api("SetTensorA", loc);
    engine_.setA(scalar(aScalar));
  }
  void SetTensorB(const GlobalTensor<SrcBT>& gm, bool isTransposeB = false,
                  Loc loc = Loc::current()) {
    ascsim::Api api("SetTensorB", loc);
    engine_.setB(with(ascsim::mm::sourceOf(gm), isTransposeB));
  }
  void SetTensorB(const LocalTensor<SrcBT>& rightMatrix, bool isTransposeB = false,
                  Loc loc = Loc::current()) {
    ascsim::Api api("SetTensorB", loc);
    engine_.setB(with(ascsim::mm::sourceOf(rightMatrix), isTransposeB));
  }
  void SetTensorB(SrcBT bScalar, Loc loc = Loc::current()) {
    ascsim::Api api("SetTensorB", loc);
    engine_.setB(scalar(bScalar));
  }
  void SetBias(const GlobalTensor<BiasT>& biasGlobal, Loc loc = Loc::current()) {
    ascsim::Api api("SetBias", loc);
    engine_.setBias(ascsim::mm::sourceOf(biasGlobal));
  }
  void SetBias(const LocalTensor<BiasT>& inputBias, Loc loc = Loc::current()) {
    ascsim::Api api("SetBias", loc);
    engine_.setBias(ascsim::mm::sourceOf(inputBias));
  }
  void ClearBias() { engine_.clearBias(); }
  void DisableBias() { engine_.clearBias(); }
  void SetQuantScalar(const uint64_t quantScalar) { engine_.setQuantScalar(quantScalar); }
  void SetQuantVector(const GlobalTensor<uint64_t>& quantTensor) {
    engine_.setQuantVector(quantTensor.place());
  }
  void SetQuantVector(const LocalTensor<uint64_t>& quantTensor) {
    engine_.setQuantVector(quantTensor.place());
  }
  void SetHF32(bool enableHF32 = false, int32_t transMode = 0, Loc loc = Loc::current()) {
    ascsim::Api api("SetHF32", loc);
    if (kClient)
      ascsim::fail(ascsim::kParam, "SetHF32 exists in pure cube mode only (ASCENDC_CUBE_ONLY)");
    if (transMode != 0 && transMode != 1)
      ascsim::report(ascsim::kParam, "transMode is %d; expected 0 or 1", transMode);
    engine_.setHf32(enableHF32, transMode);
  }
  template <class T = SrcT>
  void SetAntiQuantScalar(const T, const T) {
    static_assert(ascsim::mm::kNever<T>,
                  "SetAntiQuantScalar: half A with int8_t B does not exist on this chip");
  }
  template <class T = SrcT>
  void SetAntiQuantVector(const LocalTensor<T>&, const LocalTensor<T>&) {
    static_assert(ascsim::mm::kNever<T>,
                  "SetAntiQuantVector: half A with int8_t B does not exist on this chip");
  }
  void SetSparseIndex(const GlobalTensor<uint8_t>& indexGlobal, Loc loc = Loc::current()) {
    ascsim::Api api("SetSparseIndex", loc);
    if (kClient || !ascsim::mm::configOf(MM_CFG).doMultiDataLoad)
      ascsim::fail(ascsim::kParam,
                   "SetSparseIndex needs pure cube mode (ASCENDC_CUBE_ONLY) and the MDL template");
    engine_.setSparseIndex(indexGlobal.place());
  }
  template <class T>
  void SetWorkspace(GlobalTensor<T>& addr) {
    engine_.setWorkspace(addr.place());
  }
  template <class T>
  void SetWorkspace(__gm__ const T* addr, int) {
    GlobalTensor<T> t;
    t.SetGlobalBuffer(const_cast<T*>(addr));
    engine_.setWorkspace(t.place());
  }
  void SetLocalWorkspace(const LocalTensor<uint8_t>&) {}  // the conversions of this chip need none
  void SetUserDefInfo(const uint64_t tilingPtr) { engine_.setUser(tilingPtr); }
  void SetSelfDefineData(const uint64_t dataPtr) { engine_.setData(dataPtr); }
  void SetSubBlockIdx(uint8_t subBlockIdx) { engine_.setSubBlock(subBlockIdx); }
  uint8_t GetSubBlockIdx() { return static_cast<uint8_t>(engine_.subBlock()); }
  void SetBatchNum(int32_t batchA, int32_t batchB) { engine_.setBatch(batchA, batchB); }

  template <bool sync = true>
  bool Iterate(bool enPartialSum = false, Loc loc = Loc::current()) {
    only<ITERATE_MODE_NORMAL>();
    ascsim::Api api("Iterate", loc);
    return engine_.iterate(sync, enPartialSum, nullptr);
  }
  template <bool sync = true, typename T>
  bool Iterate(bool enPartialSum, const LocalTensor<T>& localCmatrix, Loc loc = Loc::current()) {
    static_assert(C_TYPE::pos == TPosition::CO1,
                  "Iterate into a tensor of L0C needs a C of TPosition::CO1");
    ascsim::Api api("Iterate", loc);
    const ascsim::mm::Sink sink = sinkOf(localCmatrix, 0, false);
    return engine_.iterate(sync, enPartialSum, &sink);
  }
  template <bool sync = true>
  void GetTensorC(const GlobalTensor<DstT>& gm, uint8_t enAtomic = 0,
                  bool enSequentialWrite = false, Loc loc = Loc::current()) {
    take();
    ascsim::Api api("GetTensorC", loc);
    engine_.getTensorC(sync, sinkOf(gm, enAtomic, enSequentialWrite));
  }
  template <bool sync = true>
  void GetTensorC(const LocalTensor<DstT>& co2Local, uint8_t enAtomic = 0,
                  bool enSequentialWrite = false, Loc loc = Loc::current()) {
    take();
    ascsim::Api api("GetTensorC", loc);
    engine_.getTensorC(sync, sinkOf(co2Local, enAtomic, enSequentialWrite));
  }
  template <bool sync = true, bool doPad>
  void GetTensorC(const LocalTensor<DstT>& c, uint8_t enAtomic = 0, bool enSequentialWrite = false,
                  uint32_t height = 0, uint32_t width = 0, uint32_t srcGap = 0, uint32_t dstGap = 0,
                  Loc loc = Loc::current()) {
    static_assert(!doPad, "GetTensorC: doPad is deprecated and not modelled");
    (void)height, (void)width, (void)srcGap, (void)dstGap;
    GetTensorC<sync>(c, enAtomic, enSequentialWrite, loc);
  }
  template <bool sync = true>
  void GetTensorC(const GlobalTensor<DstT>& gm, const LocalTensor<DstT>& co2Local,
                  uint8_t enAtomic = 0, bool enSequentialWrite = false, Loc loc = Loc::current()) {
    take();
    static_assert(kClient, "GetTensorC to both memories does not exist in pure cube mode");
    ascsim::Api api("GetTensorC", loc);
    engine_.getTensorC(true, sinkOf(gm, enAtomic, enSequentialWrite));
    if (engine_.active()) engine_.copyToUb(gm.place(), sinkOf(co2Local, 0, false), true);
  }
  template <bool sync = true>
  GlobalTensor<DstT> GetTensorC(uint8_t enAtomic = 0, bool enSequentialWrite = false,
                                Loc loc = Loc::current()) {
    take();
    (void)enAtomic, (void)enSequentialWrite;
    ascsim::Api api("GetTensorC", loc);
    if (!engine_.active()) return {};
    const ascsim::Place p = engine_.nextFromWorkspace();
    return globalAt(p);
  }
  void AsyncGetTensorC(const LocalTensor<DstT>& c, Loc loc = Loc::current()) {
    GetTensorC<false>(c, 0, false, loc);
  }
  void WaitGetTensorC(Loc loc = Loc::current()) {
    take();
    ascsim::Api api("WaitGetTensorC", loc);
    engine_.waitGetTensorC();
  }
  MatrixOffset GetOffsetC() { return engine_.offsetC(); }

  template <bool sync = true>
  void IterateAll(const GlobalTensor<DstT>& gm, uint8_t enAtomic = 0,
                  bool enSequentialWrite = false, bool waitIterateAll = false, bool fakeMsg = false,
                  Loc loc = Loc::current()) {
    only<ITERATE_MODE_ALL>();
    (void)waitIterateAll;  // without it nothing orders the results: the race check tells
    ascsim::Api api("IterateAll", loc);
    engine_.iterateAll(sync, sinkOf(gm, enAtomic, enSequentialWrite), fakeMsg);
  }
  template <bool sync = true>
  void IterateAll(const LocalTensor<DstT>& ubCmatrix, uint8_t enAtomic = 0,
                  Loc loc = Loc::current()) {
    only<ITERATE_MODE_ALL>();
    ascsim::Api api("IterateAll", loc);
    engine_.iterateAll(sync, sinkOf(ubCmatrix, enAtomic, false), false);
  }
  void WaitIterateAll(Loc loc = Loc::current()) {
    ascsim::Api api("WaitIterateAll", loc);
    engine_.waitAll();
  }

  // Mixed kernels
  template <bool sync = true, bool waitIterateBatch = false, bool mixed = kClient,
            std::enable_if_t<mixed, int> = 0>
  void IterateBatch(const GlobalTensor<DstT>& gm, uint32_t batchA, uint32_t batchB,
                    bool enSequentialWrite, const uint32_t matrixStrideA = 0,
                    const uint32_t matrixStrideB = 0, const uint32_t matrixStrideC = 0,
                    const bool enPartialSum = false, const uint8_t enAtomic = 0,
                    Loc loc = Loc::current()) {
    batch();
    ascsim::Api api("IterateBatch", loc);
    noStride(matrixStrideC);
    engine_.iterateBatch(sync, sinkOf(gm, enAtomic, enSequentialWrite), 1, static_cast<int>(batchA),
                         static_cast<int>(batchB), matrixStrideA, matrixStrideB, enPartialSum);
  }
  template <bool sync = true, bool mixed = kClient, std::enable_if_t<mixed, int> = 0>
  void IterateBatch(const LocalTensor<DstT>& ubCmatrix, uint32_t batchA, uint32_t batchB,
                    bool enSequentialWrite, const uint32_t matrixStrideA = 0,
                    const uint32_t matrixStrideB = 0, const uint32_t matrixStrideC = 0,
                    const bool enPartialSum = false, const uint8_t enAtomic = 0,
                    Loc loc = Loc::current()) {
    static_assert(sync, "IterateBatch to UB exists in the synchronous form only");
    batch();
    ascsim::Api api("IterateBatch", loc);
    noStride(matrixStrideC);
    engine_.iterateBatch(true, sinkOf(ubCmatrix, enAtomic, enSequentialWrite), 1,
                         static_cast<int>(batchA), static_cast<int>(batchB), matrixStrideA,
                         matrixStrideB, enPartialSum);
  }
  // Pure cube mode, after SetBatchNum
  template <bool cube = !kClient, std::enable_if_t<cube, int> = 0>
  void IterateBatch(const GlobalTensor<DstT>& gm, bool enPartialSum, uint8_t enAtomic,
                    bool enSequentialWrite, const uint32_t matrixStrideA = 0,
                    const uint32_t matrixStrideB = 0, const uint32_t matrixStrideC = 0,
                    Loc loc = Loc::current()) {
    batch();
    ascsim::Api api("IterateBatch", loc);
    noStride(matrixStrideC);
    engine_.iterateBatch(true, sinkOf(gm, enAtomic, enSequentialWrite), 1, engine_.batchA(),
                         engine_.batchB(), matrixStrideA, matrixStrideB, enPartialSum);
  }
  template <bool sync = true, bool waitIterateBatch = false>
  void IterateNBatch(const uint32_t batchLoop, uint32_t batchA, uint32_t batchB,
                     bool enSequentialWrite, const uint32_t matrixStrideA = 0,
                     const uint32_t matrixStrideB = 0, const uint32_t matrixStrideC = 0,
                     Loc loc = Loc::current()) {
    batch();
    ascsim::Api api("IterateNBatch", loc);
    if (!ascsim::mm::configOf(MM_CFG).isNBatch)
      ascsim::report(ascsim::kParam, "IterateNBatch needs isNBatch = true in the MatmulConfig");
    noStride(matrixStrideC);
    if (engine_.active() && engine_.workspace().address == 0)
      ascsim::fail(ascsim::kParam,
                   "IterateNBatch writes to the workspace: call SetWorkspace before it");
    ascsim::mm::Sink sink;
    sink.place = engine_.workspace();
    sink.sequential = enSequentialWrite;
    engine_.iterateBatch(sync, sink, static_cast<int>(batchLoop), static_cast<int>(batchA),
                         static_cast<int>(batchB), matrixStrideA, matrixStrideB, false);
  }
  void WaitIterateBatch(Loc loc = Loc::current()) {
    ascsim::Api api("WaitIterateBatch", loc);
    engine_.waitAll();
  }
  template <bool sync = true>
  GlobalTensor<DstT> GetBatchTensorC(uint32_t batchA, uint32_t batchB,
                                     bool enSequentialWrite = false, Loc loc = Loc::current()) {
    (void)enSequentialWrite;
    ascsim::Api api("GetBatchTensorC", loc);
    if (!engine_.active()) return {};
    return globalAt(engine_.nextBatch(static_cast<int>(batchA), static_cast<int>(batchB)));
  }
  template <bool sync = true>
  void GetBatchTensorC(const LocalTensor<DstT>& c, uint32_t batchA, uint32_t batchB,
                       bool enSequentialWrite = false, Loc loc = Loc::current()) {
    (void)enSequentialWrite;
    ascsim::Api api("GetBatchTensorC", loc);
    if (!engine_.active()) return;
    const ascsim::Place from =
        engine_.nextBatch(static_cast<int>(batchA), static_cast<int>(batchB));
    engine_.copyToUb(from, sinkOf(c, 0, false), sync);
  }
  template <bool sync = true>
  GlobalTensor<DstT> GetBatchC(uint32_t batchA, uint32_t batchB, bool enSequentialWrite = false,
                               Loc loc = Loc::current()) {
    return GetBatchTensorC<sync>(batchA, batchB, enSequentialWrite, loc);
  }
  template <bool sync = true>
  void GetBatchC(const LocalTensor<DstT>& c, uint32_t batchA, uint32_t batchB,
                 bool enSequentialWrite = false, Loc loc = Loc::current()) {
    GetBatchTensorC<sync>(c, batchA, batchB, enSequentialWrite, loc);
  }
  void End(Loc loc = Loc::current()) {
    ascsim::Api api("Matmul::End", loc);
    engine_.end();
  }

  ascsim::mm::Engine& engine() { return engine_; }

 private:
  static const ascsim::mm::Desc& desc() {
    static const ascsim::mm::Desc d = [] {
      ascsim::mm::Desc x;
      x.a = ascsim::mm::sideOf<A_TYPE>();
      x.b = ascsim::mm::sideOf<B_TYPE>();
      x.c = ascsim::mm::sideOf<C_TYPE>();
      x.bias = ascsim::mm::sideOf<BIAS_TYPE>();
      x.cfg = ascsim::mm::configOf(MM_CFG);
      if constexpr (std::is_same_v<std::decay_t<decltype(MM_CFG)>, MatmulApiStaticTiling>)
        x.fixed = MM_CFG;
      x.policy =
          MATMUL_POLICY<MM_CFG, MatmulCallBackFunc<>, A_TYPE, B_TYPE, C_TYPE, BIAS_TYPE>::kind;
      x.client = kClient;
      x.copyOut = MM_CB::DataCopyOutPtr;
      x.copyA = MM_CB::CopyA1Ptr;
      x.copyB = MM_CB::CopyB1Ptr;
      return x;
    }();
    return d;
  }
  template <uint8_t mode>
  static constexpr void only() {
    static_assert((ascsim::mm::configOf(MM_CFG).iterateMode & mode) != 0,
                  "the iterateMode of the MatmulConfig excludes this Iterate call");
    static_assert(mode == ITERATE_MODE_ALL || !ascsim::mm::configOf(MM_CFG).enableMixDualMaster,
                  "enableMixDualMaster supports IterateAll only");
  }
  static constexpr void take() {
    static_assert(!ascsim::mm::configOf(MM_CFG).enableMixDualMaster,
                  "GetTensorC does not exist with enableMixDualMaster; use IterateAll");
    static_assert(ascsim::mm::configOf(MM_CFG).enableGetTensorC,
                  "the MatmulConfig says enableGetTensorC = false");
  }
  static constexpr void batch() {
    static_assert(!ascsim::mm::configOf(MM_CFG).doMultiDataLoad &&
                      !ascsim::mm::configOf(MM_CFG).enableMixDualMaster,
                  "batches need the Norm template, and not enableMixDualMaster");
    static_assert(!std::is_same_v<SrcAT, int4b_t>, "batches of int4b_t do not exist");
  }
  static void noStride(uint32_t c) {
    if (c != 0)
      ascsim::report(ascsim::kParam, "matrixStrideC is %u; it is reserved, expected 0", c);
  }
  static ascsim::mm::Source with(ascsim::mm::Source s, bool trans) {
    s.trans = trans;
    return s;
  }
  template <class T>
  static ascsim::mm::Source scalar(T v) {
    static_assert(!std::is_same_v<T, int4b_t>);
    ascsim::mm::Source s;
    s.set = s.scalar = true;
    s.value = static_cast<double>(static_cast<float>(v));
    return s;
  }
  template <class T>
  static ascsim::mm::Sink sinkOf(const GlobalTensor<T>& t, uint8_t atomic, bool sequential) {
    ascsim::mm::Sink s;
    s.place = t.place();
    s.atomic = atomic;
    s.sequential = sequential;
    return s;
  }
  template <class T>
  static ascsim::mm::Sink sinkOf(const LocalTensor<T>& t, uint8_t atomic, bool sequential) {
    ascsim::mm::Sink s;
    s.place = t.place();
    s.bytes = t.GetLength();
    s.atomic = atomic;
    s.sequential = sequential;
    return s;
  }
  static GlobalTensor<DstT> globalAt(const ascsim::Place& p) {
    GlobalTensor<DstT> t;
    t.SetGlobalBuffer(reinterpret_cast<DstT*>(p.address));
    return t;
  }
  ascsim::mm::Engine engine_;
};

template <class A_TYPE, class B_TYPE, class C_TYPE, class BIAS_TYPE = C_TYPE,
          const auto& MM_CFG = CFG_NORM,
          class MM_CB = MatmulCallBackFunc<nullptr, nullptr, nullptr>,
          MATMUL_POLICY_DEFAULT_OF(MatmulPolicy)>
using MatmulImpl =
    MatmulObject<false, A_TYPE, B_TYPE, C_TYPE, BIAS_TYPE, MM_CFG, MM_CB, MATMUL_POLICY>;

template <class A_TYPE, class B_TYPE, class C_TYPE, class BIAS_TYPE = C_TYPE,
          const auto& MM_CFG = CFG_NORM,
          class MM_CB = MatmulCallBackFunc<nullptr, nullptr, nullptr>,
          MATMUL_POLICY_DEFAULT_OF(MatmulPolicy)>
using MatmulClient =
    MatmulObject<true, A_TYPE, B_TYPE, C_TYPE, BIAS_TYPE, MM_CFG, MM_CB, MATMUL_POLICY>;

}  // namespace AscendC

namespace ascsim::mm {

inline const TCubeTiling* tilingOf(const TCubeTiling* t) { return t; }
inline const TCubeTiling* tilingOf(const TCubeTiling& t) { return &t; }
inline const TCubeTiling* tilingOf(std::nullptr_t) { return nullptr; }
template <class T, class = void>
struct IsTiling : std::false_type {};
template <class T>
struct IsTiling<T, std::void_t<decltype(tilingOf(std::declval<T>()))>> : std::true_type {};

struct Registration {
  AscendC::TPipe* pipe;
  int count = 0;
  bool leave = false;
};

template <class Object>
void enroll(Registration& r, Object& object) {
  Engine& e = object.engine();
  e.enroll(r.count++);
  e.setSubBlock(isAic() ? 0 : core().subBlock);
  if (r.count > 4) report(kParam, "more than 4 Matmul objects are registered in one kernel");
  r.leave = r.leave || e.leaves();
  if (e.active() && isAiv()) core().sprs[kServedSpr] = 1;
}
template <class Object>
void enrollAll(Registration& r, Object& object) {
  enroll(r, object);
}
// Objects, each followed by its tiling or not.
template <class Object, class Next, class... Rest>
void enrollAll(Registration& r, Object& object, Next&& next, Rest&&... rest) {
  enroll(r, object);
  if constexpr (IsTiling<Next>::value) {
    object.engine().init(tilingOf(next), r.pipe);
    if constexpr (sizeof...(Rest) != 0) enrollAll(r, rest...);
  } else {
    enrollAll(r, next, rest...);
  }
}

// True on a cube core that has nothing to do but serve: it leaves the kernel.
template <class... Args>
bool registerObjects(Loc loc, AscendC::TPipe* pipe, const void*, Args&&... args) {
  Api api("REGIST_MATMUL_OBJ", loc);
  Registration r{pipe};
  enrollAll(r, args...);
  if (r.leave && aivPerGroup() == 0)
    fail(kChip,
         "the kernel %s has no vector cores that could send work to the Matmul object; define "
         "ASCENDC_CUBE_ONLY before "
         "including lib/matmul_intf.h, or make the kernel a mixed one",
         launchInfo().kernel);
  return r.leave;
}

}  // namespace ascsim::mm
