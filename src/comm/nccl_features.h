// What newer versions of NCCL have, and what stands for it where its header is older than 2.28.
#pragma once
#include <nccl.h>

namespace pendulum {

#if NCCL_VERSION_CODE >= 22800

inline constexpr bool kNcclHasWindows = true;
using NcclWindow = ncclWindow_t;

inline void ask_for_copy_engines(ncclConfig_t& config) { config.CTAPolicy = NCCL_CTA_POLICY_ZERO; }

inline ncclResult_t register_window(ncclComm_t comm, void* memory, size_t bytes,
                                    NcclWindow* window) {
  return ncclCommWindowRegister(comm, memory, bytes, window, NCCL_WIN_COLL_SYMMETRIC);
}

inline ncclResult_t deregister_window(ncclComm_t comm, NcclWindow window) {
  return ncclCommWindowDeregister(comm, window);
}

// `count` numbers to and from every rank.
inline ncclResult_t exchange_parts(const void* send, void* receive, size_t count, size_t /*bytes*/,
                                   int /*ranks*/, ncclDataType_t type, ncclComm_t comm,
                                   cudaStream_t stream) {
  return ncclAlltoAll(send, receive, count, type, comm, stream);
}

#else

inline constexpr bool kNcclHasWindows = false;
using NcclWindow = void*;

inline void ask_for_copy_engines(ncclConfig_t& /*config*/) {}

inline ncclResult_t register_window(ncclComm_t /*comm*/, void* /*memory*/, size_t /*bytes*/,
                                    NcclWindow* /*window*/) {
  return ncclInvalidUsage;
}

inline ncclResult_t deregister_window(ncclComm_t /*comm*/, NcclWindow /*window*/) {
  return ncclInvalidUsage;
}

// `bytes`: of one number.
inline ncclResult_t exchange_parts(const void* send, void* receive, size_t count, size_t bytes,
                                   int ranks, ncclDataType_t type, ncclComm_t comm,
                                   cudaStream_t stream) {
  ncclResult_t result = ncclGroupStart();
  for (int r = 0; r < ranks && result == ncclSuccess; ++r) {
    const size_t offset = static_cast<size_t>(r) * count * bytes;
    result = ncclSend(static_cast<const char*>(send) + offset, count, type, r, comm, stream);
    if (result == ncclSuccess || result == ncclInProgress)
      result = ncclRecv(static_cast<char*>(receive) + offset, count, type, r, comm, stream);
    if (result == ncclInProgress) result = ncclSuccess;
  }
  const ncclResult_t end = ncclGroupEnd();
  return result == ncclSuccess ? end : result;
}

#endif

}  // namespace pendulum
