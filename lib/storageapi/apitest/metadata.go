package apitest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// MetadataTarget is an empty store of descriptions under test.
type MetadataTarget struct {
	Writer storageapi.MetadataWriter
	Reader storageapi.MetadataReader
}

// RunMetadata checks the contracts about metadata against the stores that factory returns. Every call of factory must return a fresh, empty store.
func RunMetadata(t *testing.T, factory func(t *testing.T) MetadataTarget) {
	for name, run := range map[string]func(*testing.T, MetadataTarget){
		"order and limits": testMetadataLimits,
		"many":             testMetadataMany,
		"buffers":          testMetadataBuffers,
		"canceled":         testMetadataCanceled,
	} {
		t.Run(name, func(t *testing.T) { run(t, factory(t)) })
	}
}

func describe(t *testing.T, s MetadataTarget, list ...model.Metadata) {
	t.Helper()
	if err := s.Writer.AddMetadata(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func wantMetadata(t *testing.T, s MetadataTarget, q storageapi.MetadataQuery, want ...model.Metadata) {
	t.Helper()
	got, err := s.Reader.Metadata(t.Context(), &q)
	if err != nil || got.Coverage.Partial || !slices.Equal(got.Items, want) {
		t.Errorf("%+v:\n got %+v, partial %v, error %v\nwant %+v", q, got.Items, got.Coverage.Partial, err, want)
	}
}

func testMetadataLimits(t *testing.T, s MetadataTarget) {
	other := model.TenantID{AccountID: 7, ProjectID: 9}
	a1 := model.Metadata{Metric: "a", Type: model.TypeCounter, Unit: "s", Help: "first\n\"line\""}
	a2 := model.Metadata{Metric: "a", Type: model.TypeGauge}
	b := model.Metadata{Metric: "b", Type: model.TypeHistogram, Help: "ü"}
	c := model.Metadata{Metric: "c", Type: model.TypeStateset}
	there := model.Metadata{Tenant: other, Metric: "b", Type: model.TypeSummary}
	wantMetadata(t, s, storageapi.MetadataQuery{})
	describe(t, s, c, a1)
	describe(t, s, a2, b, there, b)
	describe(t, s)
	wantMetadata(t, s, storageapi.MetadataQuery{}, a2, a1, b, c)
	wantMetadata(t, s, storageapi.MetadataQuery{Limit: 2}, a2, a1, b)
	wantMetadata(t, s, storageapi.MetadataQuery{LimitPerMetric: 1}, a2, b, c)
	wantMetadata(t, s, storageapi.MetadataQuery{Limit: 1, LimitPerMetric: 1}, a2)
	wantMetadata(t, s, storageapi.MetadataQuery{Metric: "b"}, b)
	wantMetadata(t, s, storageapi.MetadataQuery{Metric: "nosuch"})
	wantMetadata(t, s, storageapi.MetadataQuery{Tenant: other}, there)
	wantMetadata(t, s, storageapi.MetadataQuery{Tenant: model.TenantID{AccountID: 1}})
	describe(t, s, a1)
	wantMetadata(t, s, storageapi.MetadataQuery{Metric: "a"}, a1, a2)
}

func testMetadataMany(t *testing.T, s MetadataTarget) {
	const n = 2_000
	list := make([]model.Metadata, n)
	for i := range list {
		list[i] = model.Metadata{Metric: fmt.Sprintf("metric_%05d", i), Type: model.MetricType(i % 8), Help: fmt.Sprintf("help of %d", i)}
	}
	describe(t, s, list...)
	wantMetadata(t, s, storageapi.MetadataQuery{}, list...)
	wantMetadata(t, s, storageapi.MetadataQuery{Limit: n - 1}, list[:n-1]...)
}

// testMetadataBuffers changes the memory which strings were in.
func testMetadataBuffers(t *testing.T, s MetadataTarget) {
	list := []model.Metadata{{Metric: "m", Help: "old"}}
	describe(t, s, list...)
	list[0] = model.Metadata{Metric: "x"}
	wantMetadata(t, s, storageapi.MetadataQuery{}, model.Metadata{Metric: "m", Help: "old"})
}

func testMetadataCanceled(t *testing.T, s MetadataTarget) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Writer.AddMetadata(ctx, []model.Metadata{{Metric: "m"}}); err == nil {
		t.Error("a canceled write succeeds")
	}
	if _, err := s.Reader.Metadata(ctx, &storageapi.MetadataQuery{}); err == nil {
		t.Error("a canceled query succeeds")
	}
}
