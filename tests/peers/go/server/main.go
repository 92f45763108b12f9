// The interop test service with grpc-go, on free loopback ports: one in plaintext and, with a certificate, one for
// clients that present one of the CA. One JSON line on stdout names them:
// {"plain": "127.0.0.1:1", "mtls": "127.0.0.1:2"}. SIGTERM ends it once no call is open.
//
//	server [CA CERTIFICATE KEY]
//
// No response is compressed unless its request was: grpc-go of this version has no way to choose it for a call.
//
// Source: grpc/doc/interop-test-descriptions.md.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	pb "interop"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const (
	echoInitial  = "x-grpc-test-echo-initial"
	echoTrailing = "x-grpc-test-echo-trailing-bin"
)

// watch keeps with each call whether its last message came compressed, which grpc-go tells by its lengths alone.
type watch struct{}
type compressedKey struct{}

func (watch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, compressedKey{}, new(bool))
}
func (watch) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if in, ok := event.(*stats.InPayload); ok {
		*ctx.Value(compressedKey{}).(*bool) = in.WireLength < in.Length
	}
}
func (watch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (watch) HandleConn(context.Context, stats.ConnStats)                       {}

// expected is an error where the call's last message came otherwise than its sender says. wanted: nil for no matter.
func expected(ctx context.Context, wanted *pb.BoolValue) error {
	if compressed := *ctx.Value(compressedKey{}).(*bool); wanted != nil && wanted.Value != compressed {
		return status.Errorf(codes.InvalidArgument, "expected compressed %v, got %v", wanted.Value, compressed)
	}
	return nil
}

func ended(asked *pb.EchoStatus) error {
	return status.Error(codes.Code(asked.GetCode()), asked.GetMessage()) // nil for code 0
}

func zeros(size int32) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

// echoes gives the metadata that a call asks to be sent back, initial and trailing.
func echoes(ctx context.Context) (metadata.MD, metadata.MD) {
	initial, trailing := metadata.MD{}, metadata.MD{}
	fields, _ := metadata.FromIncomingContext(ctx)
	initial.Append(echoInitial, fields.Get(echoInitial)...)
	trailing.Append(echoTrailing, fields.Get(echoTrailing)...)
	return initial, trailing
}

type service struct {
	pb.UnimplementedTestServiceServer
}

func (service) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (service) UnaryCall(ctx context.Context, request *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if err := expected(ctx, request.ExpectCompressed); err != nil {
		return nil, err
	}
	initial, trailing := echoes(ctx)
	if err := grpc.SetHeader(ctx, initial); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, trailing); err != nil {
		return nil, err
	}
	if err := ended(request.ResponseStatus); err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{Payload: zeros(request.ResponseSize)}, nil
}

func (service) StreamingInputCall(stream pb.TestService_StreamingInputCallServer) error {
	answer := &pb.StreamingInputCallResponse{}
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(answer)
		}
		if err != nil {
			return err
		}
		if err := expected(stream.Context(), request.ExpectCompressed); err != nil {
			return err
		}
		answer.AggregatedPayloadSize += int32(len(request.GetPayload().GetBody()))
	}
}

func respond(request *pb.StreamingOutputCallRequest, send func(*pb.StreamingOutputCallResponse) error) error {
	for _, parameters := range request.ResponseParameters {
		if err := send(&pb.StreamingOutputCallResponse{Payload: zeros(parameters.Size)}); err != nil {
			return err
		}
	}
	return nil
}

func (service) StreamingOutputCall(
	request *pb.StreamingOutputCallRequest, stream pb.TestService_StreamingOutputCallServer,
) error {
	return respond(request, stream.Send)
}

func (service) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	initial, trailing := echoes(stream.Context())
	if err := stream.SetHeader(initial); err != nil {
		return err
	}
	stream.SetTrailer(trailing)
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ended(request.ResponseStatus); err != nil {
			return err
		}
		if err := respond(request, stream.Send); err != nil {
			return err
		}
	}
}

func mutual(files []string) grpc.ServerOption {
	authority, err := os.ReadFile(files[0])
	check(err)
	pair, err := tls.LoadX509KeyPair(files[1], files[2])
	check(err)
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(authority)
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		MinVersion:   tls.VersionTLS13,
	}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	options := map[string][]grpc.ServerOption{"plain": nil}
	if len(os.Args) > 1 {
		options["mtls"] = []grpc.ServerOption{mutual(os.Args[1:])}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	ports := map[string]string{}
	var servers []*grpc.Server
	var serving sync.WaitGroup
	for name, option := range options {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		ports[name] = listener.Addr().String()
		server := grpc.NewServer(append(option, grpc.StatsHandler(watch{}))...)
		pb.RegisterTestServiceServer(server, &service{})
		servers = append(servers, server)
		serving.Add(1)
		go func() {
			defer serving.Done()
			check(server.Serve(listener))
		}()
	}
	check(json.NewEncoder(os.Stdout).Encode(ports))
	<-stop
	for _, server := range servers {
		server.GracefulStop()
	}
	serving.Wait()
}
