// Whether the message received last travelled compressed, of a client's and of a server's call. grpc tells its own
// interop tests alone: these two names are friends of the contexts, and the function is exported for them.
#pragma once

#include <grpcpp/grpcpp.h>

uint32_t grpc_call_test_only_get_message_flags(grpc_call* call);

namespace grpc::testing {

constexpr uint32_t kWasCompressed = 0x40000000u;  // GRPC_WRITE_INTERNAL_TEST_ONLY_WAS_COMPRESSED of grpc 1.51

class InteropClientContextInspector {
 public:
  static bool Compressed(const ClientContext& context) {
    return grpc_call_test_only_get_message_flags(context.call_) & kWasCompressed;
  }
};

class InteropServerContextInspector {
 public:
  static bool Compressed(const ServerContext& context) {
    return grpc_call_test_only_get_message_flags(context.call_.call) & kWasCompressed;
  }
};

}  // namespace grpc::testing
