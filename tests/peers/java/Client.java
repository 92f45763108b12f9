import com.google.gson.GsonBuilder;
import com.google.protobuf.ByteString;
import grpc.testing.Interop.BoolValue;
import grpc.testing.Interop.EchoStatus;
import grpc.testing.Interop.Empty;
import grpc.testing.Interop.Payload;
import grpc.testing.Interop.ResponseParameters;
import grpc.testing.Interop.SimpleRequest;
import grpc.testing.Interop.SimpleResponse;
import grpc.testing.Interop.StreamingInputCallRequest;
import grpc.testing.Interop.StreamingInputCallResponse;
import grpc.testing.Interop.StreamingOutputCallRequest;
import grpc.testing.Interop.StreamingOutputCallResponse;
import grpc.testing.TestServiceGrpc;
import grpc.testing.UnimplementedServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/**
 * The interop cases with grpc-java, in plaintext, for Debian's netty has no ALPN. Every case runs RUNS times in a row
 * on one channel; stdout gets one JSON object, {case: [null or what went wrong, for each run]}.
 *
 * <p>java Client ADDRESS RUNS
 *
 * <p>Source: grpc/doc/interop-test-descriptions.md.
 */
public final class Client {
  private static final int LARGE_REQUEST = 271828;
  private static final int LARGE_RESPONSE = 314159;
  private static final int[] INPUTS = {27182, 8, 1828, 45904};
  private static final int[] OUTPUTS = {31415, 9, 2653, 58979};
  private static final String STATUS_MESSAGE = "test status message";
  private static final String SPECIAL_MESSAGE =
      "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \ud83d\ude08\t\n";
  private static final Metadata.Key<String> INITIAL =
      Metadata.Key.of("x-grpc-test-echo-initial", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<byte[]> TRAILING =
      Metadata.Key.of("x-grpc-test-echo-trailing-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final String INITIAL_VALUE = "test_initial_metadata_value";
  private static final byte[] TRAILING_VALUE = {(byte) 0xab, (byte) 0xab, (byte) 0xab};

  private final Packed packed = new Packed();
  private final ManagedChannel channel;

  private Client(String address) {
    channel = ManagedChannelBuilder.forTarget(address).usePlaintext().decompressorRegistry(packed.registry).build();
  }

  private interface Case {
    void run() throws Exception;
  }

  private TestServiceGrpc.TestServiceBlockingStub blocking() {
    return TestServiceGrpc.newBlockingStub(channel).withDeadlineAfter(1, TimeUnit.MINUTES);
  }

  private TestServiceGrpc.TestServiceStub streaming() {
    return TestServiceGrpc.newStub(channel).withDeadlineAfter(1, TimeUnit.MINUTES);
  }

  private static void require(boolean holds, String what) {
    if (!holds) {
      throw new AssertionError(what);
    }
  }

  private static Status fails(Status.Code code, Case call) throws Exception {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      return is(code, error.getStatus());
    }
    throw new AssertionError("expected " + code + ", got a success");
  }

  private static Status is(Status.Code code, Status status) {
    require(status.getCode() == code, "expected " + code + ", got " + status);
    return status;
  }

  private static Payload zeros(int size) {
    return Payload.newBuilder().setBody(ByteString.copyFrom(new byte[size])).build();
  }

  private static void isZeros(Payload payload, int size) {
    require(payload.equals(zeros(size)), "expected " + size + " zeros, got " + payload.getBody().size() + " bytes");
  }

  private static BoolValue bool(boolean value) {
    return BoolValue.newBuilder().setValue(value).build();
  }

  private static EchoStatus unknown(String message) {
    return EchoStatus.newBuilder().setCode(Status.Code.UNKNOWN.value()).setMessage(message).build();
  }

  private static SimpleRequest.Builder large() {
    return SimpleRequest.newBuilder().setResponseSize(LARGE_RESPONSE).setPayload(zeros(LARGE_REQUEST));
  }

  private static StreamingOutputCallRequest ping(int response, int request) {
    ResponseParameters parameters = ResponseParameters.newBuilder().setSize(response).build();
    return StreamingOutputCallRequest.newBuilder().addResponseParameters(parameters).setPayload(zeros(request)).build();
  }

  /** What comes of a call, in the order in which it came: responses, then its status. */
  private static final class Outcome<T> implements StreamObserver<T> {
    private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();

    @Override
    public void onNext(T response) {
      events.add(response);
    }

    @Override
    public void onError(Throwable error) {
      events.add(Status.fromThrowable(error));
    }

    @Override
    public void onCompleted() {
      events.add(Status.OK);
    }

    private Object next() throws InterruptedException {
      Object event = events.poll(2, TimeUnit.MINUTES);
      require(event != null, "nothing came");
      return event;
    }

    @SuppressWarnings("unchecked")
    T response() throws InterruptedException {
      Object event = next();
      require(!(event instanceof Status), "expected a response, got " + event);
      return (T) event;
    }

    Status ends(Status.Code code) throws InterruptedException {
      Object event = next();
      require(event instanceof Status, "expected the end, got a response");
      return is(code, (Status) event);
    }
  }

  private void largeUnary(TestServiceGrpc.TestServiceBlockingStub stub, SimpleRequest request) {
    isZeros(stub.unaryCall(request).getPayload(), LARGE_RESPONSE);
  }

  private void clientCompressedUnary() throws Exception {
    SimpleRequest compressed = large().setExpectCompressed(bool(true)).build();
    fails(Status.Code.INVALID_ARGUMENT, () -> blocking().unaryCall(compressed));
    largeUnary(blocking().withCompression("gzip"), compressed);
    largeUnary(blocking(), large().setExpectCompressed(bool(false)).build());
  }

  private void serverCompressedUnary() {
    for (boolean wanted : new boolean[] {true, false}) {
      packed.taken();
      largeUnary(blocking(), large().setResponseCompressed(bool(wanted)).build());
      require(packed.taken() == wanted, "compressed: " + !wanted);
    }
  }

  private void clientStreaming() throws Exception {
    Outcome<StreamingInputCallResponse> outcome = new Outcome<>();
    StreamObserver<StreamingInputCallRequest> requests = streaming().streamingInputCall(outcome);
    for (int size : INPUTS) {
      requests.onNext(StreamingInputCallRequest.newBuilder().setPayload(zeros(size)).build());
    }
    requests.onCompleted();
    require(outcome.response().getAggregatedPayloadSize() == 74922, "wrong sum");
    outcome.ends(Status.Code.OK);
  }

  private void clientCompressedStreaming() throws Exception {
    StreamingInputCallRequest.Builder input = StreamingInputCallRequest.newBuilder();
    StreamingInputCallRequest probe = input.setExpectCompressed(bool(true)).setPayload(zeros(27182)).build();
    Outcome<StreamingInputCallResponse> refused = new Outcome<>();
    StreamObserver<StreamingInputCallRequest> plain = streaming().streamingInputCall(refused);
    plain.onNext(probe);
    plain.onCompleted();
    refused.ends(Status.Code.INVALID_ARGUMENT);

    Outcome<StreamingInputCallResponse> outcome = new Outcome<>();
    ClientCallStreamObserver<StreamingInputCallRequest> requests =
        (ClientCallStreamObserver<StreamingInputCallRequest>)
            streaming().withCompression("gzip").streamingInputCall(outcome);
    requests.setMessageCompression(true);
    requests.onNext(probe);
    requests.setMessageCompression(false);
    requests.onNext(input.setExpectCompressed(bool(false)).setPayload(zeros(45904)).build());
    requests.onCompleted();
    require(outcome.response().getAggregatedPayloadSize() == 73086, "wrong sum");
    outcome.ends(Status.Code.OK);
  }

  private void serverStreaming() {
    StreamingOutputCallRequest.Builder request = StreamingOutputCallRequest.newBuilder();
    for (int size : OUTPUTS) {
      request.addResponseParameters(ResponseParameters.newBuilder().setSize(size));
    }
    Iterator<StreamingOutputCallResponse> responses = blocking().streamingOutputCall(request.build());
    for (int size : OUTPUTS) {
      isZeros(responses.next().getPayload(), size);
    }
    require(!responses.hasNext(), "a response too many");
  }

  private void serverCompressedStreaming() {
    ResponseParameters first = ResponseParameters.newBuilder().setSize(31415).setCompressed(bool(true)).build();
    ResponseParameters second = ResponseParameters.newBuilder().setSize(92653).setCompressed(bool(false)).build();
    StreamingOutputCallRequest request =
        StreamingOutputCallRequest.newBuilder().addResponseParameters(first).addResponseParameters(second).build();
    packed.taken();
    // The blocking iterator asks for a message when the one before is taken, so that each is unpacked in its turn.
    Iterator<StreamingOutputCallResponse> responses = blocking().streamingOutputCall(request);
    isZeros(responses.next().getPayload(), 31415);
    require(packed.taken(), "the first came in plain");
    isZeros(responses.next().getPayload(), 92653);
    require(!packed.taken(), "the second came compressed");
    require(!responses.hasNext(), "a response too many");
  }

  private void pingPong() throws Exception {
    Outcome<StreamingOutputCallResponse> outcome = new Outcome<>();
    StreamObserver<StreamingOutputCallRequest> requests = streaming().fullDuplexCall(outcome);
    for (int number = 0; number < OUTPUTS.length; number++) {
      requests.onNext(ping(OUTPUTS[number], INPUTS[number]));
      isZeros(outcome.response().getPayload(), OUTPUTS[number]);
    }
    requests.onCompleted();
    outcome.ends(Status.Code.OK);
  }

  private void emptyStream() throws Exception {
    Outcome<StreamingOutputCallResponse> outcome = new Outcome<>();
    streaming().fullDuplexCall(outcome).onCompleted();
    outcome.ends(Status.Code.OK);
  }

  private void customMetadata() throws Exception {
    Metadata fields = new Metadata();
    fields.put(INITIAL, INITIAL_VALUE);
    fields.put(TRAILING, TRAILING_VALUE);
    AtomicReference<Metadata> headers = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    io.grpc.ClientInterceptor sends = MetadataUtils.newAttachHeadersInterceptor(fields);
    io.grpc.ClientInterceptor captures = MetadataUtils.newCaptureMetadataInterceptor(headers, trailers);

    largeUnary(blocking().withInterceptors(sends, captures), large().build());
    isEchoed(headers.get(), trailers.get());

    Outcome<StreamingOutputCallResponse> outcome = new Outcome<>();
    StreamObserver<StreamingOutputCallRequest> requests =
        streaming().withInterceptors(sends, captures).fullDuplexCall(outcome);
    requests.onNext(ping(LARGE_RESPONSE, LARGE_REQUEST));
    requests.onCompleted();
    isZeros(outcome.response().getPayload(), LARGE_RESPONSE);
    outcome.ends(Status.Code.OK);
    isEchoed(headers.get(), trailers.get());
  }

  private static void isEchoed(Metadata headers, Metadata trailers) {
    List<String> initial = new ArrayList<>();
    headers.getAll(INITIAL).forEach(initial::add);
    require(initial.equals(List.of(INITIAL_VALUE)), "initial metadata: " + initial);
    List<ByteString> trailing = new ArrayList<>();
    trailers.getAll(TRAILING).forEach(value -> trailing.add(ByteString.copyFrom(value)));
    require(trailing.equals(List.of(ByteString.copyFrom(TRAILING_VALUE))), "trailing metadata: " + trailing);
  }

  private void unaryStatus(String message) throws Exception {
    SimpleRequest request = SimpleRequest.newBuilder().setResponseStatus(unknown(message)).build();
    Status status = fails(Status.Code.UNKNOWN, () -> blocking().unaryCall(request));
    require(message.equals(status.getDescription()), "got the message " + status.getDescription());
  }

  private void statusCodeAndMessage() throws Exception {
    unaryStatus(STATUS_MESSAGE);
    Outcome<StreamingOutputCallResponse> outcome = new Outcome<>();
    StreamObserver<StreamingOutputCallRequest> requests = streaming().fullDuplexCall(outcome);
    requests.onNext(StreamingOutputCallRequest.newBuilder().setResponseStatus(unknown(STATUS_MESSAGE)).build());
    Status status = outcome.ends(Status.Code.UNKNOWN);
    require(STATUS_MESSAGE.equals(status.getDescription()), "got the message " + status.getDescription());
  }

  private void unimplementedService() throws Exception {
    fails(
        Status.Code.UNIMPLEMENTED,
        () -> UnimplementedServiceGrpc.newBlockingStub(channel).unimplementedCall(Empty.getDefaultInstance()));
  }

  private void cancelAfterBegin() throws Exception {
    Outcome<StreamingInputCallResponse> outcome = new Outcome<>();
    ((ClientCallStreamObserver<?>) streaming().streamingInputCall(outcome)).cancel("the case says so", null);
    outcome.ends(Status.Code.CANCELLED);
  }

  private void cancelAfterFirstResponse() throws Exception {
    Outcome<StreamingOutputCallResponse> outcome = new Outcome<>();
    StreamObserver<StreamingOutputCallRequest> requests = streaming().fullDuplexCall(outcome);
    requests.onNext(ping(OUTPUTS[0], INPUTS[0]));
    isZeros(outcome.response().getPayload(), OUTPUTS[0]);
    ((ClientCallStreamObserver<?>) requests).cancel("the case says so", null);
    outcome.ends(Status.Code.CANCELLED);
  }

  private void timeoutOnSleepingServer() throws Exception {
    Outcome<StreamingOutputCallResponse> outcome = new Outcome<>();
    StreamObserver<StreamingOutputCallRequest> requests =
        TestServiceGrpc.newStub(channel).withDeadlineAfter(1, TimeUnit.MILLISECONDS).fullDuplexCall(outcome);
    requests.onNext(StreamingOutputCallRequest.newBuilder().setPayload(zeros(27182)).build());
    outcome.ends(Status.Code.DEADLINE_EXCEEDED);
  }

  private Map<String, Case> cases() {
    Map<String, Case> cases = new TreeMap<>();
    cases.put("empty_unary", () -> blocking().emptyCall(Empty.getDefaultInstance()));
    cases.put("large_unary", () -> largeUnary(blocking(), large().build()));
    cases.put("client_compressed_unary", this::clientCompressedUnary);
    cases.put("server_compressed_unary", this::serverCompressedUnary);
    cases.put("client_streaming", this::clientStreaming);
    cases.put("client_compressed_streaming", this::clientCompressedStreaming);
    cases.put("server_streaming", this::serverStreaming);
    cases.put("server_compressed_streaming", this::serverCompressedStreaming);
    cases.put("ping_pong", this::pingPong);
    cases.put("empty_stream", this::emptyStream);
    cases.put("custom_metadata", this::customMetadata);
    cases.put("status_code_and_message", this::statusCodeAndMessage);
    cases.put("special_status_message", () -> unaryStatus(SPECIAL_MESSAGE));
    cases.put(
        "unimplemented_method",
        () -> fails(Status.Code.UNIMPLEMENTED, () -> blocking().unimplementedCall(Empty.getDefaultInstance())));
    cases.put("unimplemented_service", this::unimplementedService);
    cases.put("cancel_after_begin", this::cancelAfterBegin);
    cases.put("cancel_after_first_response", this::cancelAfterFirstResponse);
    cases.put("timeout_on_sleeping_server", this::timeoutOnSleepingServer);
    return cases;
  }

  private static String attempt(Case run) {
    try {
      run.run();
      return null;
    } catch (Exception | AssertionError error) {
      return error.toString();
    }
  }

  public static void main(String[] arguments) {
    Client client = new Client(arguments[0]);
    Map<String, List<String>> results = new TreeMap<>();
    client.cases().forEach(
        (name, run) -> {
          List<String> runs = new ArrayList<>();
          for (int count = Integer.parseInt(arguments[1]); count > 0; count--) {
            runs.add(attempt(run));
          }
          results.put(name, runs);
        });
    System.out.println(new GsonBuilder().serializeNulls().create().toJson(results));
    client.channel.shutdownNow();
  }
}
