package selectrpc

import (
	"context"
	"math"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
	"vmcluster/lib/transport"
)

// endTraced is the first byte of a last frame with a trace, where others have the coverage.
const endTraced = 2

// Bounds of a trace on the wire.
const (
	maxTraceMessage = 4096 // bytes of a message; longer ones are cut
	maxTraceDepth   = 64
	maxTraceBytes   = 256 << 10 // steps beyond are not told
)

// appendTrace appends a trace as the beginning of the last frame of an answer.
func appendTrace(dst []byte, n *trace.Node) []byte {
	return codec.AppendBytes(append(dst, endTraced), appendStep(nil, n, 1))
}

func appendStep(dst []byte, n *trace.Node, depth int) []byte {
	dst = codec.AppendUvarint(dst, uint64(max(0, n.Duration)))
	message, children := n.Message[:min(len(n.Message), maxTraceMessage)], n.Children
	if len(dst) > maxTraceBytes {
		message, children = "...", nil
	}
	if depth >= maxTraceDepth {
		children = nil
	}
	dst = appendText(dst, message)
	dst = codec.AppendUvarint(dst, uint64(len(children)))
	for i := range children {
		dst = appendStep(dst, &children[i], depth+1)
	}
	return dst
}

func (r *reader) step(depth int) trace.Node {
	n := trace.Node{Duration: time.Duration(min(r.uvarint(), math.MaxInt64)), Message: string(r.bytes())}
	children := r.count(3)
	if depth >= maxTraceDepth && children > 0 {
		r.fail(errkind.New(errkind.Corrupt, "there are more than %d steps within each other", maxTraceDepth))
		return n
	}
	for range children {
		n.Children = append(n.Children, r.step(depth+1))
	}
	return n
}

// parseEnd parses the last frame of an answer. What the node has traced becomes a part of the step.
func parseEnd(src []byte, step *trace.Span) (storageapi.Coverage, error) {
	if len(src) == 0 || src[0] != endTraced {
		return parseCoverage(src)
	}
	r := &reader{src: src[1:]}
	in := &reader{src: r.bytes()}
	node := in.step(1)
	if r.err != nil {
		return storageapi.Coverage{}, r.end("the end of an answer")
	}
	if err := in.end("trace"); err != nil {
		return storageapi.Coverage{}, err
	}
	step.Attach(node)
	return parseCoverage(r.src)
}

// beginTrace begins the step of a request if somebody traces, and asks the node to trace, too, if it can. The connection may be another
// one when the request is sent; in the unlikely case that the node has become an older one in between, it refuses the request.
func (c *Client) beginTrace(ctx context.Context, q *query) *trace.Span {
	parent := trace.From(ctx)
	if parent == nil {
		return nil
	}
	q.traced = c.transport.Capabilities()&transport.CapabilityTrace != 0
	return parent.Begin("%s at storage node %s", q.method, c.Addr())
}

// endTrace ends the step of a request.
func endTrace(step *trace.Span, received int, err error) {
	switch {
	case step == nil:
	case err != nil:
		step.End(": %s", err)
	default:
		step.End(": %d bytes received", received)
	}
}
