package insertrpc

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.MetadataWriter = (*Client)(nil)

// maxMetadataBytes bounds one description; longer ones are left out.
const maxMetadataBytes = 64 << 10

// metadataRequest is a request with descriptions of metrics instead of samples.
type metadataRequest struct{ list []model.Metadata }

// AppendRequest implements transport.Request. The dictionary stays as it is.
func (r *metadataRequest) AppendRequest(dst []byte, _ uint64) ([]byte, error) {
	dst = append(dst, flagMetadata)
	for i := range r.list {
		dst = r.list[i].AppendTo(dst)
	}
	return dst, nil
}

// AddMetadata sends the descriptions and returns when the node has taken all of them.
func (c *Client) AddMetadata(ctx context.Context, list []model.Metadata) error {
	for len(list) > 0 {
		n, size := 0, 0
		r := &metadataRequest{}
		for n < len(list) && size < maxRequestBytes {
			m := &list[n]
			n++
			if bytes := len(m.Metric) + len(m.Unit) + len(m.Help); bytes <= maxMetadataBytes {
				r.list = append(r.list, *m)
				size += bytes + model.TenantSize + 16
			}
		}
		if err := c.sendWhole(ctx, r); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// sendWhole sends a request without samples and waits for its acknowledgement.
func (c *Client) sendWhole(ctx context.Context, r transport.Request) error {
	stream, err := c.transport.Start(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close()
	payload, last, err := stream.Recv(ctx)
	if err == nil && (!last || len(payload) > 0) {
		err = errkind.New(errkind.Corrupt, "cannot read acknowledgement of storage node %q: %d bytes", c.Addr(), len(payload))
	}
	return err
}

// metadataCall is a request with descriptions on its way to the store.
type metadataCall struct {
	server *Server
	list   []model.Metadata
}

func (s *Server) acceptMetadata(payload []byte) (transport.Call, error) {
	list, err := decodeMetadata(payload)
	if err != nil {
		return nil, err
	}
	if s.opts.Metadata == nil {
		return nil, errkind.New(errkind.Unsupported, "cannot take metadata of metrics: this node does not offer it")
	}
	s.metadataRead.Add(len(list))
	return &metadataCall{server: s, list: list}, nil
}

// decodeMetadata reads a whole request. Errors are of kind Corrupt.
func decodeMetadata(src []byte) ([]model.Metadata, error) {
	if src[0] != flagMetadata {
		return nil, errkind.New(errkind.Corrupt, "cannot decode insert request with unknown flags %#x", src[0])
	}
	var list []model.Metadata
	for src = src[1:]; len(src) > 0; {
		var m model.Metadata
		var err error
		if src, err = model.UnmarshalMetadata(src, &m); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// Serve waits for a turn and stores the descriptions.
func (c *metadataCall) Serve(ctx context.Context, _ *transport.Responder) error {
	if err := c.server.limiter.Acquire(ctx); err != nil {
		return err
	}
	defer c.server.limiter.Release()
	return c.server.opts.Metadata.AddMetadata(ctx, c.list)
}

// Release implements transport.Call.
func (c *metadataCall) Release() {}
