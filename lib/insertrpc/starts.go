package insertrpc

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.StartWriter = (*Client)(nil)

// startRequest is a request with starts of series instead of samples.
type startRequest struct{ list []model.Start }

// AppendRequest implements transport.Request. The dictionary stays as it is.
func (r *startRequest) AppendRequest(dst []byte, _ uint64) ([]byte, error) {
	dst = append(dst, flagStarts)
	for i := range r.list {
		dst = r.list[i].AppendTo(dst)
	}
	return dst, nil
}

// AddStarts sends the starts and returns when the node has taken all of them. The kind Unsupported says that the node is older than they are.
func (c *Client) AddStarts(ctx context.Context, list []model.Start) error {
	for len(list) > 0 {
		if c.transport.Lacks(transport.CapabilityStarts) {
			return errkind.New(errkind.Unsupported, "cannot store starts of series at storage node %q: it is older than this process", c.Addr())
		}
		n := 0
		for size := 0; n < len(list) && size < maxRequestBytes; n++ {
			size += len(list[n].Series) + 16
		}
		if err := c.sendWhole(ctx, &startRequest{list: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// startCall is a request with starts on its way to the store.
type startCall struct {
	server *Server
	list   []model.Start
}

func (s *Server) acceptStarts(payload []byte) (transport.Call, error) {
	list, err := decodeStarts(payload)
	if err != nil {
		return nil, err
	}
	if s.opts.Starts == nil {
		return nil, errkind.New(errkind.Unsupported, "cannot take starts of series: this node does not offer it")
	}
	return &startCall{server: s, list: list}, nil
}

// decodeStarts reads a whole request. What it returns does not alias src. Errors are of kind Corrupt.
func decodeStarts(src []byte) ([]model.Start, error) {
	if src[0] != flagStarts {
		return nil, errkind.New(errkind.Corrupt, "cannot decode insert request with unknown flags %#x", src[0])
	}
	return model.UnmarshalStarts(nil, append([]byte(nil), src[1:]...))
}

// Serve waits for a turn and stores the starts.
func (c *startCall) Serve(ctx context.Context, _ *transport.Responder) error {
	if err := c.server.limiter.Acquire(ctx); err != nil {
		return err
	}
	defer c.server.limiter.Release()
	return c.server.opts.Starts.AddStarts(ctx, c.list)
}

// Release implements transport.Call.
func (c *startCall) Release() {}
