// The interop test service with grpc++, on free loopback ports: one in plaintext and, with a certificate, one for
// clients that present one of the CA. One JSON line on stdout names them:
// {"plain": "127.0.0.1:1", "mtls": "127.0.0.1:2"}. SIGTERM ends it once no call is open.
//
//   server [CA CERTIFICATE KEY]
//
// Source: grpc/doc/interop-test-descriptions.md.
#include <grpcpp/grpcpp.h>

#include <csignal>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>

#include "flags.h"
#include "interop.grpc.pb.h"

using grpc::ServerContext;
using grpc::Status;
using grpc::StatusCode;
using grpc::testing::BoolValue;
using grpc::testing::StreamingInputCallRequest;
using grpc::testing::StreamingOutputCallRequest;
using grpc::testing::StreamingOutputCallResponse;

namespace {

void EchoMetadata(ServerContext* context) {
  const auto& fields = context->client_metadata();
  auto value = [&](const std::string& key) {
    auto found = fields.find(key);
    return std::string(found->second.data(), found->second.size());
  };
  const std::string initial = "x-grpc-test-echo-initial", trailing = "x-grpc-test-echo-trailing-bin";
  if (fields.count(initial)) context->AddInitialMetadata(initial, value(initial));
  if (fields.count(trailing)) context->AddTrailingMetadata(trailing, value(trailing));
}

template <typename Request>
bool CameAsSaid(const ServerContext& context, const Request& request) {
  return !request.has_expect_compressed() ||
         request.expect_compressed().value() == grpc::testing::InteropServerContextInspector::Compressed(context);
}

Status Refused() { return {StatusCode::INVALID_ARGUMENT, "compressed otherwise than expected"}; }

template <typename Request>
Status Asked(const Request& request) {
  return {static_cast<StatusCode>(request.response_status().code()), request.response_status().message()};
}

template <typename Stream>
void Respond(Stream* stream, const StreamingOutputCallRequest& request) {
  for (const auto& parameters : request.response_parameters()) {
    StreamingOutputCallResponse response;
    response.mutable_payload()->set_body(std::string(parameters.size(), '\0'));
    grpc::WriteOptions options;
    if (!parameters.compressed().value()) options.set_no_compression();
    stream->Write(response, options);
  }
}

class Service final : public grpc::testing::TestService::Service {
  Status EmptyCall(ServerContext* context, const grpc::testing::Empty*, grpc::testing::Empty*) override {
    EchoMetadata(context);
    return Status::OK;
  }

  Status UnaryCall(ServerContext* context, const grpc::testing::SimpleRequest* request,
                   grpc::testing::SimpleResponse* response) override {
    if (!CameAsSaid(*context, *request)) return Refused();
    EchoMetadata(context);
    if (request->has_response_status()) return Asked(*request);
    if (request->response_compressed().value()) context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
    response->mutable_payload()->set_body(std::string(request->response_size(), '\0'));
    return Status::OK;
  }

  Status StreamingInputCall(ServerContext* context, grpc::ServerReader<StreamingInputCallRequest>* stream,
                            grpc::testing::StreamingInputCallResponse* response) override {
    StreamingInputCallRequest request;
    while (stream->Read(&request)) {
      if (!CameAsSaid(*context, request)) return Refused();
      response->set_aggregated_payload_size(response->aggregated_payload_size() + request.payload().body().size());
    }
    return Status::OK;
  }

  Status StreamingOutputCall(ServerContext* context, const StreamingOutputCallRequest* request,
                             grpc::ServerWriter<StreamingOutputCallResponse>* stream) override {
    for (const auto& parameters : request->response_parameters()) {
      if (parameters.compressed().value()) context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
    }
    Respond(stream, *request);
    return Status::OK;
  }

  Status FullDuplexCall(
      ServerContext* context,
      grpc::ServerReaderWriter<StreamingOutputCallResponse, StreamingOutputCallRequest>* stream) override {
    EchoMetadata(context);
    StreamingOutputCallRequest request;
    while (stream->Read(&request)) {
      if (request.has_response_status()) return Asked(request);
      Respond(stream, request);
    }
    return Status::OK;
  }
};

std::string Read(const char* file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::shared_ptr<grpc::ServerCredentials> Mutual(char** files) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = Read(files[0]);
  options.pem_key_cert_pairs.push_back({Read(files[2]), Read(files[1])});
  return grpc::SslServerCredentials(options);
}

}  // namespace

int main(int count, char** arguments) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);  // before grpc starts threads, which inherit it

  Service service;
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  int plain = 0, mtls = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &plain);
  if (count > 1) builder.AddListeningPort("127.0.0.1:0", Mutual(arguments + 1), &mtls);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::cout << "{\"plain\": \"127.0.0.1:" << plain << "\"";
  if (mtls != 0) std::cout << ", \"mtls\": \"127.0.0.1:" << mtls << "\"";
  std::cout << "}" << std::endl;
  int received = 0;
  sigwait(&stop, &received);
  server->Shutdown();
}
