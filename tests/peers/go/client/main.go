// The interop cases with grpc-go. Every case runs RUNS times in a row on one connection; stdout gets one JSON object,
// {case: [null or what went wrong, for each run]}.
//
//	client ADDRESS RUNS [CA CERTIFICATE KEY]
//
// Source: grpc/doc/interop-test-descriptions.md.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	pb "interop"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const (
	deadline       = time.Minute
	largeRequest   = 271828
	largeResponse  = 314159
	statusMessage  = "test status message"
	specialMessage = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
	initialKey     = "x-grpc-test-echo-initial"
	initialValue   = "test_initial_metadata_value"
	trailingKey    = "x-grpc-test-echo-trailing-bin"
	trailingValue  = "\xab\xab\xab"
)

var (
	inputSizes  = []int{27182, 8, 1828, 45904}
	outputSizes = []int32{31415, 9, 2653, 58979}
	yes, no     = &pb.BoolValue{Value: true}, &pb.BoolValue{Value: false}
	packed      = grpc.UseCompressor(gzip.Name)
)

// watch notes of each message received whether it came compressed, which grpc-go tells by its lengths alone.
type watch struct{ compressed []bool }

func (w *watch) HandleRPC(_ context.Context, event stats.RPCStats) {
	if in, ok := event.(*stats.InPayload); ok {
		w.compressed = append(w.compressed, in.WireLength < in.Length)
	}
}
func (*watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*watch) HandleConn(context.Context, stats.ConnStats)                       {}

type fault string

func require(holds bool, format string, values ...interface{}) {
	if !holds {
		panic(fault(fmt.Sprintf(format, values...)))
	}
}

func succeeds(err error) { require(err == nil, "expected success, got %v", err) }

func fails(code codes.Code, err error) *status.Status {
	require(status.Code(err) == code, "expected %v, got %v", code, err)
	return status.Convert(err)
}

func zeros(size int) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

func isZeros(payload *pb.Payload, size int32) {
	require(string(payload.GetBody()) == string(make([]byte, size)), "expected %d zeros", size)
}

func large() *pb.SimpleRequest {
	return &pb.SimpleRequest{ResponseSize: largeResponse, Payload: zeros(largeRequest)}
}

func ping(response int32, request int) *pb.StreamingOutputCallRequest {
	parameters := []*pb.ResponseParameters{{Size: response}}
	return &pb.StreamingOutputCallRequest{ResponseParameters: parameters, Payload: zeros(request)}
}

// responses reads a stream up to its end.
func responses(stream interface {
	Recv() (*pb.StreamingOutputCallResponse, error)
}) ([]*pb.StreamingOutputCallResponse, error) {
	var all []*pb.StreamingOutputCallResponse
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, response)
	}
}

func areZeros(all []*pb.StreamingOutputCallResponse, sizes ...int32) {
	require(len(all) == len(sizes), "expected %d responses, got %d", len(sizes), len(all))
	for number, size := range sizes {
		isZeros(all[number].Payload, size)
	}
}

type peer struct {
	pb.TestServiceClient
	unimplemented pb.UnimplementedServiceClient
	seen          *watch
}

func (p *peer) unaryIsZeros(ctx context.Context, request *pb.SimpleRequest, options ...grpc.CallOption) {
	response, err := p.UnaryCall(ctx, request, options...)
	succeeds(err)
	isZeros(response.Payload, largeResponse)
}

func (p *peer) duplex(ctx context.Context) pb.TestService_FullDuplexCallClient {
	stream, err := p.FullDuplexCall(ctx)
	succeeds(err)
	return stream
}

func (p *peer) inputs(ctx context.Context, options ...grpc.CallOption) pb.TestService_StreamingInputCallClient {
	stream, err := p.StreamingInputCall(ctx, options...)
	succeeds(err)
	return stream
}

var cases = map[string]func(*peer, context.Context){
	"empty_unary": func(p *peer, ctx context.Context) {
		_, err := p.EmptyCall(ctx, &pb.Empty{})
		succeeds(err)
	},
	"large_unary": func(p *peer, ctx context.Context) { p.unaryIsZeros(ctx, large()) },
	"client_compressed_unary": func(p *peer, ctx context.Context) {
		compressed, plain := large(), large()
		compressed.ExpectCompressed, plain.ExpectCompressed = yes, no
		_, err := p.UnaryCall(ctx, compressed)
		fails(codes.InvalidArgument, err)
		p.unaryIsZeros(ctx, compressed, packed)
		p.unaryIsZeros(ctx, plain)
	},
	"server_compressed_unary": func(p *peer, ctx context.Context) {
		for _, wanted := range []*pb.BoolValue{yes, no} {
			request := large()
			request.ResponseCompressed = wanted
			p.unaryIsZeros(ctx, request)
		}
		require(fmt.Sprint(p.seen.compressed) == "[true false]", "compressed: %v", p.seen.compressed)
	},
	"client_streaming": func(p *peer, ctx context.Context) {
		stream := p.inputs(ctx)
		for _, size := range inputSizes {
			succeeds(stream.Send(&pb.StreamingInputCallRequest{Payload: zeros(size)}))
		}
		answer, err := stream.CloseAndRecv()
		succeeds(err)
		require(answer.AggregatedPayloadSize == 74922, "expected 74922, got %d", answer.AggregatedPayloadSize)
	},
	"client_compressed_streaming": func(p *peer, ctx context.Context) {
		probe := &pb.StreamingInputCallRequest{ExpectCompressed: yes, Payload: zeros(27182)}
		stream := p.inputs(ctx)
		succeeds(stream.Send(probe))
		_, err := stream.CloseAndRecv()
		fails(codes.InvalidArgument, err)

		// One message in plain among compressed ones: prepared by the rules of a stream without compression.
		plainCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		var plain grpc.PreparedMsg
		message := &pb.StreamingInputCallRequest{ExpectCompressed: no, Payload: zeros(45904)}
		succeeds(plain.Encode(p.inputs(plainCtx), message))

		stream = p.inputs(ctx, packed)
		succeeds(stream.Send(probe))
		succeeds(stream.SendMsg(&plain))
		answer, err := stream.CloseAndRecv()
		succeeds(err)
		require(answer.AggregatedPayloadSize == 73086, "expected 73086, got %d", answer.AggregatedPayloadSize)
	},
	"server_streaming": func(p *peer, ctx context.Context) {
		request := &pb.StreamingOutputCallRequest{}
		for _, size := range outputSizes {
			request.ResponseParameters = append(request.ResponseParameters, &pb.ResponseParameters{Size: size})
		}
		stream, err := p.StreamingOutputCall(ctx, request)
		succeeds(err)
		all, err := responses(stream)
		succeeds(err)
		areZeros(all, outputSizes...)
	},
	"server_compressed_streaming": func(p *peer, ctx context.Context) {
		parameters := []*pb.ResponseParameters{{Size: 31415, Compressed: yes}, {Size: 92653, Compressed: no}}
		stream, err := p.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: parameters})
		succeeds(err)
		all, err := responses(stream)
		succeeds(err)
		areZeros(all, 31415, 92653)
		require(fmt.Sprint(p.seen.compressed) == "[true false]", "compressed: %v", p.seen.compressed)
	},
	"ping_pong": func(p *peer, ctx context.Context) {
		stream := p.duplex(ctx)
		for number, size := range outputSizes {
			succeeds(stream.Send(ping(size, inputSizes[number])))
			response, err := stream.Recv()
			succeeds(err)
			isZeros(response.Payload, size)
		}
		succeeds(stream.CloseSend())
		all, err := responses(stream)
		succeeds(err)
		areZeros(all)
	},
	"empty_stream": func(p *peer, ctx context.Context) {
		stream := p.duplex(ctx)
		succeeds(stream.CloseSend())
		all, err := responses(stream)
		succeeds(err)
		areZeros(all)
	},
	"custom_metadata": func(p *peer, ctx context.Context) {
		ctx = metadata.AppendToOutgoingContext(ctx, initialKey, initialValue, trailingKey, trailingValue)
		echoed := func(header, trailer metadata.MD) {
			initial, trailing := header.Get(initialKey), trailer.Get(trailingKey)
			require(len(initial) == 1 && initial[0] == initialValue, "initial metadata %q", initial)
			require(len(trailing) == 1 && trailing[0] == trailingValue, "trailing metadata %q", trailing)
		}
		var header, trailer metadata.MD
		p.unaryIsZeros(ctx, large(), grpc.Header(&header), grpc.Trailer(&trailer))
		echoed(header, trailer)

		stream := p.duplex(ctx)
		succeeds(stream.Send(ping(largeResponse, largeRequest)))
		succeeds(stream.CloseSend())
		all, err := responses(stream)
		succeeds(err)
		areZeros(all, largeResponse)
		header, err = stream.Header()
		succeeds(err)
		echoed(header, stream.Trailer())
	},
	"status_code_and_message": func(p *peer, ctx context.Context) {
		ending := &pb.EchoStatus{Code: int32(codes.Unknown), Message: statusMessage}
		_, err := p.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: ending})
		require(fails(codes.Unknown, err).Message() == statusMessage, "unary: %v", err)

		stream := p.duplex(ctx)
		succeeds(stream.Send(&pb.StreamingOutputCallRequest{ResponseStatus: ending}))
		succeeds(stream.CloseSend())
		_, err = responses(stream)
		require(fails(codes.Unknown, err).Message() == statusMessage, "stream: %v", err)
	},
	"special_status_message": func(p *peer, ctx context.Context) {
		ending := &pb.EchoStatus{Code: int32(codes.Unknown), Message: specialMessage}
		_, err := p.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: ending})
		require(fails(codes.Unknown, err).Message() == specialMessage, "%v", err)
	},
	"unimplemented_method": func(p *peer, ctx context.Context) {
		_, err := p.UnimplementedCall(ctx, &pb.Empty{})
		fails(codes.Unimplemented, err)
	},
	"unimplemented_service": func(p *peer, ctx context.Context) {
		_, err := p.unimplemented.UnimplementedCall(ctx, &pb.Empty{})
		fails(codes.Unimplemented, err)
	},
	"cancel_after_begin": func(p *peer, ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		stream := p.inputs(ctx)
		cancel()
		_, err := stream.CloseAndRecv()
		fails(codes.Canceled, err)
	},
	"cancel_after_first_response": func(p *peer, ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		stream := p.duplex(ctx)
		succeeds(stream.Send(ping(outputSizes[0], inputSizes[0])))
		response, err := stream.Recv()
		succeeds(err)
		isZeros(response.Payload, outputSizes[0])
		cancel()
		_, err = responses(stream)
		fails(codes.Canceled, err)
	},
	"timeout_on_sleeping_server": func(p *peer, ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		stream, err := p.FullDuplexCall(ctx)
		if err == nil {
			_ = stream.Send(&pb.StreamingOutputCallRequest{Payload: zeros(27182)}) // Recv tells why it failed
			_, err = stream.Recv()
		}
		fails(codes.DeadlineExceeded, err)
	},
}

// run is one case once: nil, or what went wrong.
func (p *peer) run(name string) (wrong interface{}) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	defer func() {
		if found := recover(); found != nil {
			wrong = string(found.(fault))
		}
	}()
	p.seen.compressed = nil
	cases[name](p, ctx)
	return nil
}

func security(files []string) grpc.DialOption {
	if len(files) == 0 {
		return grpc.WithInsecure()
	}
	authority, err := os.ReadFile(files[0])
	check(err)
	pair, err := tls.LoadX509KeyPair(files[1], files[2])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	return grpc.WithTransportCredentials(credentials.NewTLS(config))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	runs, err := strconv.Atoi(os.Args[2])
	check(err)
	seen := &watch{}
	connection, err := grpc.Dial(os.Args[1], security(os.Args[3:]), grpc.WithStatsHandler(seen))
	check(err)
	p := &peer{pb.NewTestServiceClient(connection), pb.NewUnimplementedServiceClient(connection), seen}
	results := map[string][]interface{}{}
	for name := range cases {
		for count := 0; count < runs; count++ {
			results[name] = append(results[name], p.run(name))
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(results))
}
