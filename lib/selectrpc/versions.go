package selectrpc

import (
	"context"
	"encoding/binary"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.Versioner = (*Client)(nil)

func appendVersion(dst []byte, v *storageapi.Version) []byte {
	dst = binary.BigEndian.AppendUint64(dst, v.Instance)
	dst = codec.AppendUvarint(dst, v.Sequence)
	dst = codec.AppendUvarint(dst, v.Changed)
	dst = codec.AppendVarint(dst, v.Until)
	return codec.AppendVarint(dst, v.DedupIntervalMs)
}

// appendVersions appends the versions of a frame.
func appendVersions(dst []storageapi.Version, frame []byte) ([]storageapi.Version, error) {
	r := &reader{src: frame}
	for len(r.src) > 0 {
		dst = append(dst, storageapi.Version{
			Instance: binary.BigEndian.Uint64(r.take(8)), Sequence: r.uvarint(), Changed: r.uvarint(), Until: r.varint(), DedupIntervalMs: r.varint(),
		})
	}
	return dst, r.end("versions")
}

// versions answers with the versions of the stores.
func (c *call) versions(ctx context.Context, out *transport.Responder) (cov storageapi.Coverage, err error) {
	v := c.server.opts.Versioner
	if v == nil {
		return cov, errkind.New(errkind.Unsupported, "cannot %s: this node does not offer it", c.query.method)
	}
	list, err := v.Versions(ctx, c.query.search.Tenant, c.query.search.Range)
	if err != nil {
		return cov, err
	}
	w := itemWriter{out: out}
	for i := range list {
		w.buf = appendVersion(w.buf, &list[i])
		w.sendFull()
	}
	w.flush()
	return cov, w.err
}

// Versions asks the node for the versions of its samples.
func (c *Client) Versions(ctx context.Context, tenant model.TenantID, r model.TimeRange) (list []storageapi.Version, err error) {
	_, err = c.call(ctx, &query{method: methodVersions, search: model.SearchQuery{Tenant: tenant, Range: r}}, func(frame []byte) (err error) {
		list, err = appendVersions(list, frame)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
