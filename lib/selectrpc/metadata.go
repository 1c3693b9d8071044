package selectrpc

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

var _ storageapi.MetadataReader = (*Client)(nil)

// metadataQuery puts the question into the fields of a query: max series is the largest number of descriptions of a metric.
func metadataQuery(q *storageapi.MetadataQuery) *query {
	return &query{method: methodMetadata, search: model.SearchQuery{Tenant: q.Tenant, AllTenants: q.AllTenants, MaxSeries: q.LimitPerMetric}, limit: q.Limit, text: q.Metric}
}

// metadata is the reverse of metadataQuery.
func (q *query) metadata() *storageapi.MetadataQuery {
	return &storageapi.MetadataQuery{Tenant: q.search.Tenant, LimitPerMetric: q.search.MaxSeries, Limit: q.limit, Metric: q.text}
}

// metadata answers with descriptions one after the other.
func (c *call) metadata(ctx context.Context, out *transport.Responder) (cov storageapi.Coverage, err error) {
	reader := c.server.opts.Metadata
	if reader == nil {
		return cov, errkind.New(errkind.Unsupported, "cannot %s: this node does not offer it", c.query.method)
	}
	list, err := reader.Metadata(ctx, c.query.metadata())
	if err != nil {
		return cov, err
	}
	w := itemWriter{out: out}
	for i := range list.Items {
		w.buf = list.Items[i].AppendTo(w.buf)
		w.sendFull()
	}
	w.flush()
	return list.Coverage, w.err
}

// Metadata asks the node for descriptions of metrics.
func (c *Client) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (out storageapi.MetadataList, err error) {
	out.Coverage, err = c.call(ctx, metadataQuery(q), func(frame []byte) error {
		out.Items, err = appendMetadata(out.Items, frame)
		return err
	})
	if err != nil {
		return storageapi.MetadataList{}, err
	}
	return out, nil
}

// appendMetadata appends the descriptions of a frame.
func appendMetadata(dst []model.Metadata, frame []byte) ([]model.Metadata, error) {
	for len(frame) > 0 {
		var m model.Metadata
		var err error
		if frame, err = model.UnmarshalMetadata(frame, &m); err != nil {
			return dst, err
		}
		dst = append(dst, m)
	}
	return dst, nil
}
