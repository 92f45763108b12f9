import com.google.protobuf.ByteString;
import grpc.testing.Interop.BoolValue;
import grpc.testing.Interop.EchoStatus;
import grpc.testing.Interop.Empty;
import grpc.testing.Interop.Payload;
import grpc.testing.Interop.SimpleRequest;
import grpc.testing.Interop.SimpleResponse;
import grpc.testing.Interop.StreamingInputCallRequest;
import grpc.testing.Interop.StreamingInputCallResponse;
import grpc.testing.Interop.StreamingOutputCallRequest;
import grpc.testing.Interop.StreamingOutputCallResponse;
import grpc.testing.TestServiceGrpc;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.net.InetAddress;
import java.net.InetSocketAddress;

/**
 * The interop test service with grpc-java, in plaintext on a free loopback port. One JSON line on stdout names it:
 * {"plain": "127.0.0.1:1"}. SIGTERM ends it once no call is open.
 *
 * <p>java Server
 *
 * <p>Source: grpc/doc/interop-test-descriptions.md.
 */
public final class Server {
  private static final Metadata.Key<String> INITIAL =
      Metadata.Key.of("x-grpc-test-echo-initial", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<byte[]> TRAILING =
      Metadata.Key.of("x-grpc-test-echo-trailing-bin", Metadata.BINARY_BYTE_MARSHALLER);

  private Server() {}

  private static Payload zeros(int size) {
    return Payload.newBuilder().setBody(ByteString.copyFrom(new byte[size])).build();
  }

  /** Sends back the metadata that a call asks for, initial and trailing. */
  private static final class Echo implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata fields, ServerCallHandler<Q, A> next) {
      return next.startCall(
          new SimpleForwardingServerCall<Q, A>(call) {
            @Override
            public void sendHeaders(Metadata headers) {
              copy(INITIAL, headers);
              super.sendHeaders(headers);
            }

            @Override
            public void close(Status status, Metadata trailers) {
              copy(TRAILING, trailers);
              super.close(status, trailers);
            }

            private <T> void copy(Metadata.Key<T> key, Metadata target) {
              if (fields.containsKey(key)) {
                target.put(key, fields.get(key));
              }
            }
          },
          fields);
    }
  }

  private static final class Service extends TestServiceGrpc.TestServiceImplBase {
    private final Packed packed;

    Service(Packed packed) {
      this.packed = packed;
    }

    /** Whether the request came as its sender says; where it did not, the call is ended. */
    private boolean cameAsSaid(boolean said, BoolValue compressed, StreamObserver<?> responses) {
      boolean came = packed.taken();
      if (said && compressed.getValue() != came) {
        String description = "expected compressed " + compressed.getValue() + ", got " + came;
        responses.onError(Status.INVALID_ARGUMENT.withDescription(description).asRuntimeException());
        return false;
      }
      return true;
    }

    private static void end(EchoStatus asked, StreamObserver<?> responses) {
      responses.onError(
          Status.fromCodeValue(asked.getCode()).withDescription(asked.getMessage()).asRuntimeException());
    }

    private static void respond(
        StreamingOutputCallRequest request, StreamObserver<StreamingOutputCallResponse> responses) {
      ServerCallStreamObserver<StreamingOutputCallResponse> call =
          (ServerCallStreamObserver<StreamingOutputCallResponse>) responses;
      request.getResponseParametersList().forEach(
          parameters -> {
            call.setMessageCompression(parameters.getCompressed().getValue());
            call.onNext(StreamingOutputCallResponse.newBuilder().setPayload(zeros(parameters.getSize())).build());
          });
    }

    @Override
    public void emptyCall(Empty request, StreamObserver<Empty> responses) {
      responses.onNext(Empty.getDefaultInstance());
      responses.onCompleted();
    }

    @Override
    public void unaryCall(SimpleRequest request, StreamObserver<SimpleResponse> responses) {
      if (!cameAsSaid(request.hasExpectCompressed(), request.getExpectCompressed(), responses)) {
        return;
      }
      if (request.hasResponseStatus()) {
        end(request.getResponseStatus(), responses);
        return;
      }
      if (request.getResponseCompressed().getValue()) {
        ((ServerCallStreamObserver<SimpleResponse>) responses).setCompression("gzip");
      }
      responses.onNext(SimpleResponse.newBuilder().setPayload(zeros(request.getResponseSize())).build());
      responses.onCompleted();
    }

    @Override
    public StreamObserver<StreamingInputCallRequest> streamingInputCall(
        StreamObserver<StreamingInputCallResponse> responses) {
      return new StreamObserver<>() {
        private int size;
        private boolean refused;

        @Override
        public void onNext(StreamingInputCallRequest request) {
          if (refused) {
            return;
          }
          refused = !cameAsSaid(request.hasExpectCompressed(), request.getExpectCompressed(), responses);
          size += request.getPayload().getBody().size();
        }

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {
          if (!refused) {
            responses.onNext(StreamingInputCallResponse.newBuilder().setAggregatedPayloadSize(size).build());
            responses.onCompleted();
          }
        }
      };
    }

    @Override
    public void streamingOutputCall(
        StreamingOutputCallRequest request, StreamObserver<StreamingOutputCallResponse> responses) {
      if (request.getResponseParametersList().stream().anyMatch(parameters -> parameters.getCompressed().getValue())) {
        ((ServerCallStreamObserver<StreamingOutputCallResponse>) responses).setCompression("gzip");
      }
      respond(request, responses);
      responses.onCompleted();
    }

    @Override
    public StreamObserver<StreamingOutputCallRequest> fullDuplexCall(
        StreamObserver<StreamingOutputCallResponse> responses) {
      return new StreamObserver<>() {
        private boolean ended;

        @Override
        public void onNext(StreamingOutputCallRequest request) {
          if (request.hasResponseStatus()) {
            ended = true;
            end(request.getResponseStatus(), responses);
          } else {
            respond(request, responses);
          }
        }

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {
          if (!ended) {
            responses.onCompleted();
          }
        }
      };
    }
  }

  public static void main(String[] arguments) throws Exception {
    Packed packed = new Packed();
    io.grpc.Server server =
        NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
            .decompressorRegistry(packed.registry)
            .intercept(new Echo())
            .addService(new Service(packed))
            .build()
            .start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> finish(server)));
    System.out.println("{\"plain\": \"127.0.0.1:" + server.getPort() + "\"}");
    server.awaitTermination();
  }

  private static void finish(io.grpc.Server server) {
    try {
      server.shutdown().awaitTermination();
      Runtime.getRuntime().halt(0); // the JVM's own status would be that of a process ended by its signal
    } catch (InterruptedException error) {
      Runtime.getRuntime().halt(1);
    }
  }
}
