// asc_dump: DumpTensor by address. Pointers to on-chip memory are those of GetPhyAddr.
#pragma once
#include "kernel_operator.h"

namespace ascsim {

template <class T>
void dumpAddress(Mem mem, const char* name, const T* p, uint32_t desc, uint32_t count,
                 const char* api, const Loc& loc) {
  const Api scope(api, loc);
  Place place;
  place.mem = mem;
  place.address = reinterpret_cast<uint64_t>(p);
  if (mem != Mem::GM) place.address -= reinterpret_cast<uint64_t>(core().ptr(mem, 0));
  place.limit = place.address + count * sizeof(T);
  dumpTensor(place, dtypeOf<T>(), sizeof(T), name, desc, count, nullptr);
}

}  // namespace ascsim

template <class T>
void asc_dump_gm(__gm__ T* input, uint32_t desc, uint32_t count,
                 ascsim::Loc loc = ascsim::Loc::current()) {
  ascsim::dumpAddress(ascsim::Mem::GM, "GM", input, desc, count, "asc_dump_gm", loc);
}

template <class T>
void asc_dump_ubuf(__ubuf__ T* input, uint32_t desc, uint32_t count,
                   ascsim::Loc loc = ascsim::Loc::current()) {
  ascsim::dumpAddress(ascsim::Mem::UB, "UB", input, desc, count, "asc_dump_ubuf", loc);
}

template <class T>
void asc_dump_l1buf(__cbuf__ T* input, uint32_t desc, uint32_t count,
                    ascsim::Loc loc = ascsim::Loc::current()) {
  ascsim::dumpAddress(ascsim::Mem::L1, "L1", input, desc, count, "asc_dump_l1buf", loc);
}

template <class T>
void asc_dump_cbuf(__cc__ T* input, uint32_t desc, uint32_t count,
                   ascsim::Loc loc = ascsim::Loc::current()) {
  ascsim::dumpAddress(ascsim::Mem::L0C, "L0C", input, desc, count, "asc_dump_cbuf", loc);
}

// The address tells the memory: off the device the qualifiers are no part of the type.
template <class T>
void asc_dump(T* input, uint32_t desc, uint32_t count, ascsim::Loc loc = ascsim::Loc::current()) {
  const auto at = reinterpret_cast<uint64_t>(input);
  for (const ascsim::Mem mem : {ascsim::Mem::UB, ascsim::Mem::L1, ascsim::Mem::L0C}) {
    const auto base = reinterpret_cast<uint64_t>(ascsim::core().ptr(mem, 0));
    if (at >= base && at < base + ascsim::memSize(mem)) {
      ascsim::dumpAddress(mem, ascsim::memName(mem), input, desc, count, "asc_dump", loc);
      return;
    }
  }
  asc_dump_gm(input, desc, count, loc);
}
