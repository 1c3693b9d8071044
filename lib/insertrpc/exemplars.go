package insertrpc

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.ExemplarWriter = (*Client)(nil)

// exemplarRequest is a request with exemplars instead of samples.
type exemplarRequest struct{ list []model.Exemplar }

// AppendRequest implements transport.Request. The dictionary stays as it is.
func (r *exemplarRequest) AppendRequest(dst []byte, _ uint64) ([]byte, error) {
	dst = append(dst, flagExemplars)
	var previous *model.Exemplar
	for i := range r.list {
		dst = r.list[i].AppendTo(dst, previous)
		previous = &r.list[i]
	}
	return dst, nil
}

// AddExemplars sends the exemplars and returns when the node has stored all of them. The kind Unsupported says that the node is older than they are.
func (c *Client) AddExemplars(ctx context.Context, list []model.Exemplar) error {
	for len(list) > 0 {
		if c.transport.Lacks(transport.CapabilityExemplars) {
			return errkind.New(errkind.Unsupported, "cannot store exemplars at storage node %q: it is older than this process", c.Addr())
		}
		n := 0
		for size := 0; n < len(list) && size < maxRequestBytes; n++ {
			size += len(list[n].Series) + len(list[n].Labels) + 24
		}
		if err := c.sendWhole(ctx, &exemplarRequest{list: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// exemplarCall is a request with exemplars on its way to the store.
type exemplarCall struct {
	server *Server
	list   []model.Exemplar
}

func (s *Server) acceptExemplars(payload []byte) (transport.Call, error) {
	list, err := decodeExemplars(payload)
	if err != nil {
		return nil, err
	}
	if s.opts.Exemplars == nil {
		return nil, errkind.New(errkind.Unsupported, "cannot take exemplars: this node does not offer it")
	}
	s.exemplarsRead.Add(len(list))
	return &exemplarCall{server: s, list: list}, nil
}

// decodeExemplars reads a whole request. What it returns does not alias src. Errors are of kind Corrupt.
func decodeExemplars(src []byte) ([]model.Exemplar, error) {
	if src[0] != flagExemplars {
		return nil, errkind.New(errkind.Corrupt, "cannot decode insert request with unknown flags %#x", src[0])
	}
	return model.UnmarshalExemplars(nil, append([]byte(nil), src[1:]...))
}

// Serve waits for a turn and stores the exemplars.
func (c *exemplarCall) Serve(ctx context.Context, _ *transport.Responder) error {
	if err := c.server.limiter.Acquire(ctx); err != nil {
		return err
	}
	defer c.server.limiter.Release()
	return c.server.opts.Exemplars.AddExemplars(ctx, c.list)
}

// Release implements transport.Call.
func (c *exemplarCall) Release() {}
