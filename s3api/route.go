package s3api

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"
)

// level tells what a path names.
type level uint8

const (
	service level = iota // "/"
	bucket               // a bucket
	object_              // a key in a bucket
)

// operation is one operation of S3: how it is recognised, what it is called in policies, and what does it.
type operation struct {
	name   string // S3's name, in logs and metrics too
	action string // IAM action; "" if the operation asks for each key itself, of nobody who is anonymous
	level  level
	method string
	query  string // sub-resource that must be in the query, "" for none
	header string // header that must be there, "" for none
	// objectSum: the x-amz-checksum headers describe the object that the operation makes, not the request's body.
	objectSum bool
	// locks: the x-amz-object-lock headers describe the version that the operation makes.
	locks bool
	// credentials: the request body carries its credentials, so the operation asks who and whether by itself.
	credentials bool
	handle      func(*call) error
}

// operations returns the table of all operations. Of those that fit a request the first is taken, so the ones without
// sub-resource come last for every method.
func (s *Server) operations() []operation {
	ops := []operation{
		{name: "CreateMultipartUpload", action: "s3:PutObject", level: object_, method: "POST", query: "uploads", locks: true, handle: (*call).createUpload},
		{name: "CompleteMultipartUpload", action: "s3:PutObject", level: object_, method: "POST", query: "uploadId", objectSum: true, handle: (*call).completeUpload},
		{name: "UploadPartCopy", action: "s3:PutObject", level: object_, method: "PUT", query: "uploadId", header: "X-Amz-Copy-Source", handle: (*call).uploadPartCopy},
		{name: "UploadPart", action: "s3:PutObject", level: object_, method: "PUT", query: "uploadId", handle: (*call).uploadPart},
		{name: "ListParts", action: "s3:ListMultipartUploadParts", level: object_, method: "GET", query: "uploadId", handle: (*call).listParts},
		{name: "AbortMultipartUpload", action: "s3:AbortMultipartUpload", level: object_, method: "DELETE", query: "uploadId", handle: (*call).abortUpload},

		{name: "GetObjectTagging", action: "s3:GetObjectTagging", level: object_, method: "GET", query: "tagging", handle: (*call).getObjectTagging},
		{name: "PutObjectTagging", level: object_, method: "PUT", query: "tagging", handle: (*call).putObjectTagging},
		{name: "DeleteObjectTagging", action: "s3:DeleteObjectTagging", level: object_, method: "DELETE", query: "tagging", handle: (*call).deleteObjectTagging},
		{name: "RenameObject", action: "s3:PutObject", level: object_, method: "PUT", query: "renameObject", handle: (*call).renameObject},
		{name: "GetObjectAttributes", action: "s3:GetObjectAttributes", level: object_, method: "GET", query: "attributes", handle: (*call).getObjectAttributes},

		{name: "GetBucketLocation", action: "s3:GetBucketLocation", level: bucket, method: "GET", query: "location", handle: (*call).getBucketLocation},
		{name: "GetBucketVersioning", action: "s3:GetBucketVersioning", level: bucket, method: "GET", query: "versioning", handle: (*call).getBucketVersioning},
		{name: "PutBucketVersioning", action: "s3:PutBucketVersioning", level: bucket, method: "PUT", query: "versioning", handle: (*call).putBucketVersioning},
		{name: "GetBucketTagging", action: "s3:GetBucketTagging", level: bucket, method: "GET", query: "tagging", handle: (*call).getBucketTagging},
		{name: "PutBucketTagging", action: "s3:PutBucketTagging", level: bucket, method: "PUT", query: "tagging", handle: (*call).putBucketTagging},
		{name: "DeleteBucketTagging", action: "s3:PutBucketTagging", level: bucket, method: "DELETE", query: "tagging", handle: (*call).deleteBucketTagging},
		{name: "GetBucketEncryption", action: "s3:GetEncryptionConfiguration", level: bucket, method: "GET", query: "encryption", handle: (*call).getBucketEncryption},
		{name: "PutBucketEncryption", action: "s3:PutEncryptionConfiguration", level: bucket, method: "PUT", query: "encryption", handle: (*call).putBucketEncryption},
		{name: "DeleteBucketEncryption", action: "s3:PutEncryptionConfiguration", level: bucket, method: "DELETE", query: "encryption", handle: (*call).deleteBucketEncryption},
		{name: "ListObjectVersions", action: "s3:ListBucketVersions", level: bucket, method: "GET", query: "versions", handle: (*call).listVersions},
		{name: "ListMultipartUploads", action: "s3:ListBucketMultipartUploads", level: bucket, method: "GET", query: "uploads", handle: (*call).listUploads},
		{name: "DeleteObjects", level: bucket, method: "POST", query: "delete", handle: (*call).deleteObjects},
	}
	ops = append(ops, lockOperations()...)
	ops = append(ops, lifecycleOperations()...)
	ops = append(ops, accessOperations()...)
	ops = append(ops, notificationOperations()...)
	ops = append(ops, absentOperations()...)
	return append(ops,
		operation{name: "GetObject", action: "s3:GetObject", level: object_, method: "GET", handle: (*call).getObject},
		operation{name: "HeadObject", action: "s3:GetObject", level: object_, method: "HEAD", handle: (*call).getObject},
		operation{name: "CopyObject", action: "s3:PutObject", level: object_, method: "PUT", header: "X-Amz-Copy-Source", locks: true, handle: (*call).copyObject},
		operation{name: "PutObject", action: "s3:PutObject", level: object_, method: "PUT", locks: true, handle: (*call).putObject},
		operation{name: "DeleteObject", action: "s3:DeleteObject", level: object_, method: "DELETE", handle: (*call).deleteObject},
		operation{name: "ListObjectsV2", action: "s3:ListBucket", level: bucket, method: "GET", query: "list-type", handle: (*call).listObjectsV2},
		operation{name: "ListObjects", action: "s3:ListBucket", level: bucket, method: "GET", handle: (*call).listObjects},
		operation{name: "HeadBucket", action: "s3:ListBucket", level: bucket, method: "HEAD", handle: (*call).headBucket},
		operation{name: "PostObject", level: bucket, method: "POST", credentials: true, locks: true, handle: (*call).postObject},
		operation{name: "CreateBucket", action: "s3:CreateBucket", level: bucket, method: "PUT", handle: (*call).createBucket},
		operation{name: "DeleteBucket", action: "s3:DeleteBucket", level: bucket, method: "DELETE", handle: (*call).deleteBucket},
		operation{name: "SecurityTokens", level: service, method: "POST", credentials: true, handle: (*call).securityTokens},
		operation{name: "ListBuckets", action: "s3:ListAllMyBuckets", level: service, method: "GET", handle: (*call).listBuckets},
	)
}

// newRouter makes a route of every operation. The router matches method, level and sub-resource; it never sees, cleans or
// decodes a key: the target was parsed before (path.go), and the level is all of it that the router needs.
func (s *Server) newRouter() *mux.Router {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	for _, op := range s.operations() {
		router.Methods(op.method).MatcherFunc(op.matches).Name(op.name).Handler(op.handler())
	}
	router.NotFoundHandler = http.HandlerFunc(noOperation)
	router.MethodNotAllowedHandler = http.HandlerFunc(noOperation)
	return router
}

func (op *operation) matches(r *http.Request, _ *mux.RouteMatch) bool {
	if r.URL.Opaque != levelNames[op.level] {
		return false
	}
	if op.query != "" && !queryNames(r.URL.RawQuery, op.query) {
		return false
	}
	return op.header == "" || len(r.Header[op.header]) > 0
}

// levelNames is how a level travels to the router, in the request's URL.Opaque.
var levelNames = [...]string{"service", "bucket", "object"}

func (t *target) level() level {
	switch {
	case t.bucket == "":
		return service
	case t.key == "":
		return bucket
	}
	return object_
}

// queryNames tells whether a raw query has a parameter of this name. Names of sub-resources are not escaped by anyone.
func queryNames(raw, name string) bool {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if strings.HasPrefix(pair, name) && (len(pair) == len(name) || pair[len(name)] == '=') {
			return true
		}
	}
	return false
}

// handler runs an operation: who, whether, a slot, then the operation itself.
func (op *operation) handler() http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c := w.(*call)
		c.op = op
		if err := c.serve(); err != nil {
			c.fail(err)
		}
	}
}

func (c *call) serve() error {
	if c.op.credentials {
		if err := c.srv.admit(c.r.Context()); err != nil {
			return err
		}
		c.admitted = true
		return c.op.handle(c)
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	if err := c.authorize(c.action()); err != nil {
		return err
	}
	if err := c.strayParameter(); err != nil {
		return err
	}
	if err := c.srv.admit(c.r.Context()); err != nil {
		return err
	}
	c.admitted = true
	c.nameCaller()
	return c.op.handle(c)
}

// action is what the identity must be allowed to do. Naming a version is another action than naming a key.
func (c *call) action() string { return c.versioned(c.op.action) }

// versioned is the action on a version, if the request names one.
func (c *call) versioned(action string) string {
	if c.key == "" || !c.query.has("versionId") {
		return action
	}
	switch action {
	case "s3:GetObject", "s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObjectTagging", "s3:GetObjectAttributes",
		"s3:GetObjectAcl", "s3:PutObjectAcl", "s3:DeleteObject":
		return strings.Replace(action, "Object", "ObjectVersion", 1)
	}
	return action
}

// strayParameter refuses a change with a sub-resource that no operation knows. Without it, deleting some future configuration
// of a bucket would delete the bucket.
func (c *call) strayParameter() error {
	if c.op.query != "" || c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return nil
	}
	for _, p := range c.query {
		if p.Key == "versionId" && c.op.name != "DeleteObject" {
			return errInvalidArgument.with("This operation does not accept a version-id.", field{"ArgumentName", "versionId"})
		}
		if p.Value == "" && p.Key != "versionId" && p.Key != "x-id" {
			return errNotImplemented.with("Cairn does not serve this sub-resource: nothing was changed.", field{"Subresource", p.Key})
		}
	}
	return nil
}

// noOperation answers where no operation fits: after authentication, so that nobody learns more than he may.
func noOperation(w http.ResponseWriter, _ *http.Request) {
	c := w.(*call)
	if err := c.authenticate(); err != nil {
		c.fail(err)
		return
	}
	if c.who.Anonymous() {
		c.fail(errAccessDenied)
		return
	}
	c.fail(errMethodNotAllowed.with("", field{"Method", c.r.Method}, field{"ResourceType", strings.ToUpper(levelNames[c.level()])}))
}
