// What the functional run hands to the cycle model: per core, its instruction stream in program
// order. The scalar unit dispatches it; each pipe runs its own events in order.
//
// ------------------------------------------------------------------ contract with the API headers
// One event per hardware instruction (`Instr` appends it). A call of the API that the hardware runs
// as several instructions (a loop of repeats over 255, main block and tail, one per row) opens one
// Instr each. `site`, `pipe` and `mnemonic` are filled by Instr; the rest by the API function.
//
// Vector pipe (Pipe::V): set `repeats` and `dtype` (of the source; of the wider type for casts).
//   repeats = steps of 256 bytes, also in count forms and counter mode: ceil(count * size / 256).
//   Set the operands vdst/vsrc0/vsrc1 (address in UB and both strides in blocks of 32 bytes) where
//   the instruction has them: the model derives bank conflicts and which earlier results are waited
//   for. Without them it assumes no conflicts, and `dependent` (Instr fills it) says whether it
//   waits. Mnemonics:
//     arithmetic   vadd vsub vmul vdiv vmax vmin vand vor vxor vnot vabs vrelu vlrelu vprelu vexp
//     vln
//                  vsqrt vrsqrt vrec vaxpy vmla vmadd vmaddrelu vaddrelu vsubrelu
//                  vmulconv vaddreluconv vsubreluconv
//     with scalar  vadds vmuls vmaxs vmins vshl vshr
//     conversion   vconv (every cast), vconv_deq
//     compare      vcmpv (two tensors) vcmpvs (scalar) vsel
//     fill, move   vdup vcopy vbrcb vtranspose (16x16) vnchwconv vgather vgatherb vscatter vci
//                  vmov_ub (DataCopy from UB to UB: set bytes and bursts too)
//     mask         vreduce (GatherMask), vreducev2 (GatherMask with a user pattern)
//     reduction    vcadd vcmax vcmin (whole repeat) vcgadd vcgmax vcgmin (per block) vcpadd (pairs)
//     sorting      vbitsort (Sort32; repeats of 32 elements) vmrgsort4 (repeats = elements out)
//                  vextract vconcat (region proposals; repeats of 16)
//     shuffling    vintlv vdintlv (Interleave, DeInterleave)
//   High-level calls (SoftMax, LayerNorm, TopK ...): one Instr per instruction they would be made
//   of; if that is not modelled, a single Instr "vmacro" with repeats = sum over the passes it
//   would make.
// Cube (Pipe::M): "mad", repeats = ceil(m/16) * ceil(k/(32/size)) * ceil(n/16), dtype of A (I4: 64
// per
//   k step). "mad_tf32"/"mad_hf32" for the HF32 mode. "mad_bias" like mad when it reads BT.
// Transfers (MTE1, MTE2, MTE3, FIX): set src, dst, bytes (those moved, without gaps) and bursts
//   (contiguous runs on the GM side; on chip: of the source). From or to GM also gmAddress, gmSpan,
//   l2Hint (1 = CACHE_MODE_DISABLE) and dtype; `atomic` if it adds into GM. Runs of unequal length
//   or stride are taken as equal ones over the span.
//     mte_gm_ub mte_gm_l1 mte_gm_l1_nd2nz mte_gm_l1_dn2nz mte_gm_l0a mte_gm_l0b mte_ub_gm mte_ub_l1
//     mte_ub_ub mte_l1_gm mte_l1_ub mte_l1_l0a mte_l1_l0b mte_l1_bt mte_l1_fb
//     "..._t" (mte_l1_l0a_t, mte_l1_l0b_t): transposing LoadData; "..._3d": LoadData 3D (img2col)
//     fix_l0c_gm fix_l0c_l1 fix_l0c_ub; "fill_l1", "fill_l0a", "fill_l0b" (InitConstValue)
// Scalar unit (Pipe::S): "scalar" (1 cycle each unless `cycles` says more), "scalar_load" and
//   "scalar_store" (GetValue, SetValue on UB), "scalar_load_gm", "scalar_store_gm", "scalar_gm" (GM
//   through the data cache; set src or dst = GM, gmAddress, bytes: without them an average),
//   "dcci", "set_mask", "set_spr", "tiling" (copy of the tiling data; bytes), "msg" (to another
//   core).
// Unknown mnemonics cost like the pipe's default and are listed once in the report.
// `cycles` >= 0 overrides the model; use it only where a source gives the number.
// -------------------------------------------------------------------------------------------------
#pragma once
#include <cstdint>

#include "ascsim/base.h"

namespace ascsim {

enum class Ev : uint8_t {
  Exec,  // an instruction on `pipe`
  Set,   // `pipe` signals `token` once its earlier events are done (and not before `cycles` more)
  Wait,  // `pipe` (S: dispatch) stops until `token` is signalled
  Barrier,  // `pipe` drains; Pipe::Count: all pipes drain and dispatch stops until then
};

// A vector operand in UB. Strides in blocks of 32 bytes: between the 8 blocks of a repeat, and from
// repeat to repeat. A block stride of 0 reads one block once.
struct VecOperand {
  static constexpr uint32_t kNone = ~0u;
  uint32_t address = kNone;
  uint16_t blockStride = 1;
  uint16_t repeatStride = 8;
};

struct TraceEvent {
  Ev kind = Ev::Exec;
  Pipe pipe = Pipe::S;
  Mem src = Mem::Count;  // transfers: where from, where to
  Mem dst = Mem::Count;
  DType dtype = DType::Other;
  uint8_t l2Hint = 0;      // 0 normal, 1 do not keep in L2
  bool dependent = false;  // needs the result of the previous instruction of the same pipe
  bool atomic = false;     // adds into GM instead of overwriting
  uint32_t site = 0;       // source location
  const char* mnemonic = "";
  uint32_t repeats = 0;    // vector pipe: repeats of 256 bytes; M: cube steps (fractal products)
  float cycles = -1.0f;    // known occupancy of the pipe; negative: the model computes it
  uint64_t bytes = 0;      // transfers: bytes moved
  uint32_t bursts = 0;     // transfers: number of separate runs
  uint64_t gmAddress = 0;  // transfers from or to GM: first byte, for L2 residency
  uint64_t gmSpan = 0;     // ... and the distance from the first to the last byte
  uint64_t token = 0;
  VecOperand vdst, vsrc0, vsrc1;  // vector pipe: operands, for bank conflicts
};

}  // namespace ascsim
