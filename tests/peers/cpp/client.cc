// The interop cases with grpc++. Every case runs RUNS times in a row on one channel; stdout gets one JSON object,
// {case: [null or what went wrong, for each run]}.
//
//   client ADDRESS RUNS [CA CERTIFICATE KEY]
//
// Source: grpc/doc/interop-test-descriptions.md.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "flags.h"
#include "interop.grpc.pb.h"

using grpc::ClientContext;
using grpc::Status;
using grpc::StatusCode;
using grpc::testing::SimpleRequest;
using grpc::testing::SimpleResponse;
using grpc::testing::StreamingInputCallRequest;
using grpc::testing::StreamingInputCallResponse;
using grpc::testing::StreamingOutputCallRequest;
using grpc::testing::StreamingOutputCallResponse;
using grpc::testing::TestService;

namespace {

constexpr int kLargeRequest = 271828, kLargeResponse = 314159;
const std::vector<int> kInputs = {27182, 8, 1828, 45904}, kOutputs = {31415, 9, 2653, 58979};
const std::string kStatusMessage = "test status message";
const std::string kSpecialMessage = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
const std::string kInitialKey = "x-grpc-test-echo-initial", kInitialValue = "test_initial_metadata_value";
const std::string kTrailingKey = "x-grpc-test-echo-trailing-bin", kTrailingValue = "\xab\xab\xab";

struct Peer {
  std::unique_ptr<TestService::Stub> test;
  std::unique_ptr<grpc::testing::UnimplementedService::Stub> unimplemented;
};

struct Context : ClientContext {
  Context() { set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1)); }
};

void Require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

void Ended(const Status& status, StatusCode code, const std::string& message = "") {
  Require(status.error_code() == code, "expected status " + std::to_string(code) + ", got " +
                                           std::to_string(status.error_code()) + ": " + status.error_message());
  Require(message.empty() || status.error_message() == message, "got the message " + status.error_message());
}

template <typename Message>
void IsZeros(const Message& message, int size) {
  Require(message.payload().body() == std::string(size, '\0'), "expected " + std::to_string(size) + " zeros");
}

template <typename Message>
Message WithZeros(int size) {
  Message message;
  message.mutable_payload()->set_body(std::string(size, '\0'));
  return message;
}

SimpleRequest Large() {
  auto request = WithZeros<SimpleRequest>(kLargeRequest);
  request.set_response_size(kLargeResponse);
  return request;
}

StreamingOutputCallRequest Ping(int response, int request) {
  auto message = WithZeros<StreamingOutputCallRequest>(request);
  message.add_response_parameters()->set_size(response);
  return message;
}

StreamingInputCallRequest Input(bool compressed, int size) {
  auto message = WithZeros<StreamingInputCallRequest>(size);
  message.mutable_expect_compressed()->set_value(compressed);
  return message;
}

void LargeUnary(const Peer& peer, ClientContext& context, const SimpleRequest& request) {
  SimpleResponse response;
  Ended(peer.test->UnaryCall(&context, request, &response), StatusCode::OK);
  IsZeros(response, kLargeResponse);
}

void EmptyUnary(const Peer& peer) {
  Context context;
  grpc::testing::Empty response;
  Ended(peer.test->EmptyCall(&context, {}, &response), StatusCode::OK);
}

void PlainLargeUnary(const Peer& peer) {
  Context context;
  LargeUnary(peer, context, Large());
}

void ClientCompressedUnary(const Peer& peer) {
  SimpleRequest request = Large();
  request.mutable_expect_compressed()->set_value(true);
  Context probe, packed, plain;
  SimpleResponse response;
  Ended(peer.test->UnaryCall(&probe, request, &response), StatusCode::INVALID_ARGUMENT);
  packed.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  LargeUnary(peer, packed, request);
  request.mutable_expect_compressed()->set_value(false);
  LargeUnary(peer, plain, request);
}

void ServerCompressedUnary(const Peer& peer) {
  for (bool wanted : {true, false}) {
    Context context;
    SimpleRequest request = Large();
    request.mutable_response_compressed()->set_value(wanted);
    LargeUnary(peer, context, request);
    bool compressed = grpc::testing::InteropClientContextInspector::Compressed(context);
    Require(compressed == wanted, "compressed: " + std::to_string(compressed));
  }
}

void ClientStreaming(const Peer& peer) {
  Context context;
  StreamingInputCallResponse response;
  auto stream = peer.test->StreamingInputCall(&context, &response);
  for (int size : kInputs) Require(stream->Write(WithZeros<StreamingInputCallRequest>(size)), "a write failed");
  stream->WritesDone();
  Ended(stream->Finish(), StatusCode::OK);
  Require(response.aggregated_payload_size() == 74922, "got " + std::to_string(response.aggregated_payload_size()));
}

void ClientCompressedStreaming(const Peer& peer) {
  Context refused, context;
  StreamingInputCallResponse response;
  auto probe = peer.test->StreamingInputCall(&refused, &response);
  probe->Write(Input(true, 27182));
  probe->WritesDone();
  Ended(probe->Finish(), StatusCode::INVALID_ARGUMENT);

  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  auto stream = peer.test->StreamingInputCall(&context, &response);
  Require(stream->Write(Input(true, 27182)), "the compressed write failed");
  Require(stream->Write(Input(false, 45904), grpc::WriteOptions().set_no_compression()), "the plain write failed");
  stream->WritesDone();
  Ended(stream->Finish(), StatusCode::OK);
  Require(response.aggregated_payload_size() == 73086, "got " + std::to_string(response.aggregated_payload_size()));
}

void ServerStreaming(const Peer& peer) {
  Context context;
  StreamingOutputCallRequest request;
  for (int size : kOutputs) request.add_response_parameters()->set_size(size);
  auto stream = peer.test->StreamingOutputCall(&context, request);
  StreamingOutputCallResponse response;
  for (int size : kOutputs) {
    Require(stream->Read(&response), "a response is missing");
    IsZeros(response, size);
  }
  Require(!stream->Read(&response), "a response too many");
  Ended(stream->Finish(), StatusCode::OK);
}

void ServerCompressedStreaming(const Peer& peer) {
  Context context;
  StreamingOutputCallRequest request;
  const std::vector<std::pair<int, bool>> wanted = {{31415, true}, {92653, false}};
  for (auto [size, compressed] : wanted) {
    auto* parameters = request.add_response_parameters();
    parameters->set_size(size);
    parameters->mutable_compressed()->set_value(compressed);
  }
  auto stream = peer.test->StreamingOutputCall(&context, request);
  StreamingOutputCallResponse response;
  for (auto [size, compressed] : wanted) {
    Require(stream->Read(&response), "a response is missing");
    IsZeros(response, size);
    bool came = grpc::testing::InteropClientContextInspector::Compressed(context);
    Require(came == compressed, "compressed: " + std::to_string(came));
  }
  Require(!stream->Read(&response), "a response too many");
  Ended(stream->Finish(), StatusCode::OK);
}

void PingPong(const Peer& peer) {
  Context context;
  auto stream = peer.test->FullDuplexCall(&context);
  StreamingOutputCallResponse response;
  for (size_t number = 0; number < kOutputs.size(); ++number) {
    Require(stream->Write(Ping(kOutputs[number], kInputs[number])), "a write failed");
    Require(stream->Read(&response), "a response is missing");
    IsZeros(response, kOutputs[number]);
  }
  stream->WritesDone();
  Require(!stream->Read(&response), "a response too many");
  Ended(stream->Finish(), StatusCode::OK);
}

void EmptyStream(const Peer& peer) {
  Context context;
  auto stream = peer.test->FullDuplexCall(&context);
  stream->WritesDone();
  StreamingOutputCallResponse response;
  Require(!stream->Read(&response), "a response too many");
  Ended(stream->Finish(), StatusCode::OK);
}

void AreEchoed(const ClientContext& context) {
  auto has = [](const auto& fields, const std::string& key, const std::string& value) {
    auto found = fields.find(key);
    Require(fields.count(key) == 1 && std::string(found->second.data(), found->second.size()) == value,
            key + " is not echoed once");
  };
  has(context.GetServerInitialMetadata(), kInitialKey, kInitialValue);
  has(context.GetServerTrailingMetadata(), kTrailingKey, kTrailingValue);
}

void CustomMetadata(const Peer& peer) {
  Context unary, duplex;
  for (ClientContext* context : {static_cast<ClientContext*>(&unary), static_cast<ClientContext*>(&duplex)}) {
    context->AddMetadata(kInitialKey, kInitialValue);
    context->AddMetadata(kTrailingKey, kTrailingValue);
  }
  LargeUnary(peer, unary, Large());
  AreEchoed(unary);
  auto stream = peer.test->FullDuplexCall(&duplex);
  stream->Write(Ping(kLargeResponse, kLargeRequest));
  stream->WritesDone();
  StreamingOutputCallResponse response;
  Require(stream->Read(&response), "a response is missing");
  IsZeros(response, kLargeResponse);
  Require(!stream->Read(&response), "a response too many");
  Ended(stream->Finish(), StatusCode::OK);
  AreEchoed(duplex);
}

Status UnaryStatus(const Peer& peer, const std::string& message) {
  Context context;
  SimpleRequest request;
  SimpleResponse response;
  request.mutable_response_status()->set_code(StatusCode::UNKNOWN);
  request.mutable_response_status()->set_message(message);
  return peer.test->UnaryCall(&context, request, &response);
}

void StatusCodeAndMessage(const Peer& peer) {
  Ended(UnaryStatus(peer, kStatusMessage), StatusCode::UNKNOWN, kStatusMessage);
  Context context;
  auto stream = peer.test->FullDuplexCall(&context);
  StreamingOutputCallRequest request;
  request.mutable_response_status()->set_code(StatusCode::UNKNOWN);
  request.mutable_response_status()->set_message(kStatusMessage);
  stream->Write(request);
  stream->WritesDone();
  StreamingOutputCallResponse response;
  Require(!stream->Read(&response), "a response too many");
  Ended(stream->Finish(), StatusCode::UNKNOWN, kStatusMessage);
}

void SpecialStatusMessage(const Peer& peer) {
  Ended(UnaryStatus(peer, kSpecialMessage), StatusCode::UNKNOWN, kSpecialMessage);
}

void UnimplementedMethod(const Peer& peer) {
  Context context;
  grpc::testing::Empty response;
  Ended(peer.test->UnimplementedCall(&context, {}, &response), StatusCode::UNIMPLEMENTED);
}

void UnimplementedService(const Peer& peer) {
  Context context;
  grpc::testing::Empty response;
  Ended(peer.unimplemented->UnimplementedCall(&context, {}, &response), StatusCode::UNIMPLEMENTED);
}

void CancelAfterBegin(const Peer& peer) {
  Context context;
  StreamingInputCallResponse response;
  auto stream = peer.test->StreamingInputCall(&context, &response);
  context.TryCancel();
  Ended(stream->Finish(), StatusCode::CANCELLED);
}

void CancelAfterFirstResponse(const Peer& peer) {
  Context context;
  auto stream = peer.test->FullDuplexCall(&context);
  StreamingOutputCallResponse response;
  stream->Write(Ping(kOutputs[0], kInputs[0]));
  Require(stream->Read(&response), "the first response is missing");
  IsZeros(response, kOutputs[0]);
  context.TryCancel();
  while (stream->Read(&response)) continue;
  Ended(stream->Finish(), StatusCode::CANCELLED);
}

void TimeoutOnSleepingServer(const Peer& peer) {
  ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1));
  auto stream = peer.test->FullDuplexCall(&context);
  stream->Write(WithZeros<StreamingOutputCallRequest>(27182));
  StreamingOutputCallResponse response;
  while (stream->Read(&response)) continue;
  Ended(stream->Finish(), StatusCode::DEADLINE_EXCEEDED);
}

const std::map<std::string, std::function<void(const Peer&)>> kCases = {
    {"empty_unary", EmptyUnary},
    {"large_unary", PlainLargeUnary},
    {"client_compressed_unary", ClientCompressedUnary},
    {"server_compressed_unary", ServerCompressedUnary},
    {"client_streaming", ClientStreaming},
    {"client_compressed_streaming", ClientCompressedStreaming},
    {"server_streaming", ServerStreaming},
    {"server_compressed_streaming", ServerCompressedStreaming},
    {"ping_pong", PingPong},
    {"empty_stream", EmptyStream},
    {"custom_metadata", CustomMetadata},
    {"status_code_and_message", StatusCodeAndMessage},
    {"special_status_message", SpecialStatusMessage},
    {"unimplemented_method", UnimplementedMethod},
    {"unimplemented_service", UnimplementedService},
    {"cancel_after_begin", CancelAfterBegin},
    {"cancel_after_first_response", CancelAfterFirstResponse},
    {"timeout_on_sleeping_server", TimeoutOnSleepingServer},
};

std::string Read(const char* file) {
  std::ifstream in(file);
  Require(in.good(), std::string("cannot read ") + file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::shared_ptr<grpc::ChannelCredentials> Security(int count, char** files) {
  if (count == 0) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({Read(files[0]), Read(files[2]), Read(files[1])});
}

}  // namespace

int main(int count, char** arguments) {
  auto channel = grpc::CreateChannel(arguments[1], Security(count - 3, arguments + 3));
  const Peer peer{TestService::NewStub(channel), grpc::testing::UnimplementedService::NewStub(channel)};
  google::protobuf::Struct results;
  for (const auto& [name, run] : kCases) {
    auto* runs = (*results.mutable_fields())[name].mutable_list_value();
    for (int left = std::stoi(arguments[2]); left > 0; --left) {
      auto* result = runs->add_values();
      result->set_null_value(google::protobuf::NULL_VALUE);
      try {
        run(peer);
      } catch (const std::runtime_error& error) {
        result->set_string_value(error.what());
      }
    }
  }
  std::string line;
  if (!google::protobuf::util::MessageToJsonString(results, &line).ok()) return 1;
  std::cout << line << std::endl;
}
