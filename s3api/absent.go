package s3api

import (
	"net/http"
	"strings"
)

// absence describes a sub-resource that Cairn does not serve: what a GET is told, in S3's own words for "not configured".
type absence struct {
	query string
	name  string    // in operation names: "Get" + name
	get   *apiError // what GET answers, or
	doc   string    // the document of an empty configuration, without the XML header
	// list is the document that lists no configurations, for the kinds of which a bucket has many, told apart by "id".
	list string
}

func emptyList(element string) string {
	return "<" + element + ` xmlns="` + xmlNamespace + `"><IsTruncated>false</IsTruncated></` + element + ">"
}

func missing(code, message string) *apiError { return newError(http.StatusNotFound, code, message) }

// bucketAbsences lists the sub-resources of buckets that are configured nowhere. A GET tells so as S3 does, a PUT is
// NotImplemented, and a DELETE of what is not there succeeds.
func bucketAbsences() []absence {
	const ns = ` xmlns="` + xmlNamespace + `"`
	noConfig := missing("NoSuchConfiguration", "The specified configuration does not exist.")
	return []absence{
		{query: "website", name: "BucketWebsite",
			get: missing("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration")},
		{query: "replication", name: "BucketReplication",
			get: missing("ReplicationConfigurationNotFoundError", "The replication configuration was not found")},
		{query: "accelerate", name: "BucketAccelerateConfiguration", doc: `<AccelerateConfiguration` + ns + `/>`},
		{query: "requestPayment", name: "BucketRequestPayment", doc: `<RequestPaymentConfiguration` + ns +
			`><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`},
		{query: "logging", name: "BucketLogging", doc: `<BucketLoggingStatus` + ns + `/>`},
		{query: "analytics", name: "BucketAnalyticsConfiguration", get: noConfig, list: emptyList("ListBucketAnalyticsConfigurationResult")},
		{query: "inventory", name: "BucketInventoryConfiguration", get: noConfig, list: emptyList("ListInventoryConfigurationsResult")},
		{query: "metrics", name: "BucketMetricsConfiguration", get: noConfig, list: emptyList("ListMetricsConfigurationsResult")},
		{query: "intelligent-tiering", name: "BucketIntelligentTieringConfiguration", get: noConfig, list: emptyList("ListBucketIntelligentTieringConfigurationsOutput")},
	}
}

// absentOperations makes operations of what is not served, so that it is authorised, counted and answered like the rest.
func absentOperations() []operation {
	var ops []operation
	for _, a := range bucketAbsences() {
		ops = append(ops,
			operation{name: "Get" + a.name, action: "s3:Get" + a.action(), level: bucket, method: "GET", query: a.query, handle: a.answer},
			operation{name: "Put" + a.name, action: "s3:Put" + a.action(), level: bucket, method: "PUT", query: a.query, handle: notServed(a.name)},
			operation{name: "Delete" + a.name, action: "s3:Put" + a.action(), level: bucket, method: "DELETE", query: a.query, handle: (*call).deleteNothing})
	}
	for _, o := range []struct {
		method, query, name string
		handle              func(*call) error
	}{
		{"GET", "torrent", "GetObjectTorrent", notServed("BitTorrent")},
		{"POST", "restore", "RestoreObject", notServed("restoring archived objects")},
		{"POST", "select", "SelectObjectContent", notServed("S3 Select")},
	} {
		ops = append(ops, operation{name: o.name, action: "s3:" + o.name, level: object_, method: o.method, query: o.query, handle: o.handle})
	}
	return ops
}

// action is what policies call the sub-resource, which is not always what the operations do.
func (a absence) action() string {
	switch name := strings.TrimPrefix(a.name, "Bucket"); name {
	case "Encryption", "Replication":
		return name + "Configuration"
	case "AccelerateConfiguration", "AnalyticsConfiguration", "InventoryConfiguration", "MetricsConfiguration",
		"IntelligentTieringConfiguration", "LifecycleConfiguration":
		return name
	}
	return a.name
}

// answer is the GET of a sub-resource that is configured nowhere; the bucket must exist.
func (a absence) answer(c *call) error {
	if _, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket); err != nil {
		return err
	}
	if a.list != "" && !c.query.has("id") {
		return c.render(func(b []byte) []byte { return append(b, a.list...) })
	}
	if a.get != nil {
		return a.get.with("", field{"BucketName", c.bucket})
	}
	return c.render(func(b []byte) []byte { return append(b, a.doc...) })
}

func notServed(what string) func(*call) error {
	return func(c *call) error {
		return errNotImplemented.with("Cairn does not serve " + what + ": nothing was changed.")
	}
}

// deleteNothing removes a configuration that is not there.
func (c *call) deleteNothing() error {
	if _, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket); err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}
