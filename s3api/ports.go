package s3api

import (
	"context"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/meta"
	"cairn/object"
)

// Objects is the store behind the frontend. *object.Store is one.
type Objects interface {
	BucketStore
	VersionStore
	UploadStore
	EncryptionStore
}

// BucketStore is the part of Objects that keeps buckets.
type BucketStore interface {
	CreateBucket(ctx context.Context, b cairn.Bucket) (cairn.Bucket, error)
	Bucket(ctx context.Context, name string) (cairn.Bucket, error)
	Buckets(ctx context.Context) ([]cairn.Bucket, error)
	DeleteBucket(ctx context.Context, name string) error
	UpdateBucket(ctx context.Context, name string, change func(*cairn.Bucket) error) (cairn.Bucket, error)
	List(ctx context.Context, r meta.List) (meta.Page, error)
	ListVersions(ctx context.Context, r meta.ListVersions) (meta.VersionPage, error)
}

// VersionStore is the part of Objects that keeps versions.
type VersionStore interface {
	Put(ctx context.Context, r object.Put) (cairn.Version, error)
	Open(ctx context.Context, ref meta.VersionRef) (*object.Object, error)
	Head(ctx context.Context, ref meta.VersionRef) (cairn.Version, error)
	Delete(ctx context.Context, r meta.DeleteVersion) (meta.Deleted, error)
	DeleteMany(ctx context.Context, rs []meta.DeleteVersion) ([]meta.Deleted, []error)
	Copy(ctx context.Context, r object.Copy) (cairn.Version, error)
	Update(ctx context.Context, r meta.UpdateVersion) (cairn.Version, error)
	Append(ctx context.Context, r object.Append) (cairn.Version, error)
	Rename(ctx context.Context, r meta.Rename) (cairn.Version, error)
}

// UploadStore is the part of Objects that keeps multipart uploads.
type UploadStore interface {
	CreateSealedUpload(ctx context.Context, u cairn.Upload, want cairn.EncryptionWish) (cairn.Upload, error)
	Upload(ctx context.Context, bucket, key, id string) (cairn.Upload, error)
	PutPart(ctx context.Context, r object.PutPart) (cairn.Part, error)
	CopyPart(ctx context.Context, r object.CopyPart) (cairn.Part, error)
	Parts(ctx context.Context, bucket, key, upload string, after, max int) ([]cairn.Part, bool, error)
	Complete(ctx context.Context, r object.Complete) (cairn.Version, error)
	Abort(ctx context.Context, bucket, key, upload string) error
	ListUploads(ctx context.Context, r meta.ListUploads) (meta.UploadPage, error)
}

// Identities knows who may do what. *iam.Store is one.
type Identities interface {
	// Lookup returns the secret and identity of an access key and the session token with it, "" for none. ErrNotFound if
	// there is no such key, ErrInvalid for a wrong token, iam.ErrExpired.
	Lookup(accessKey, token string) (secret string, id iam.Identity, err error)
	// Authorize returns nil if the identity (the zero one is anonymous) may do what is asked, ErrForbidden otherwise.
	Authorize(id *iam.Identity, r *iam.Request) error
	// StartSession gives out temporary credentials.
	StartSession(r iam.NewSession) (iam.Session, error)
	Accounts
}

// Accounts knows the owners of buckets and objects.
type Accounts interface {
	// AccountOf returns the account with a canonical ID; false if it is not known.
	AccountOf(id string) (iam.Account, bool)
	AccountByEmail(email string) (iam.Account, bool)
	// Owns tells whether a name that a client gave for an account means the one with a canonical ID.
	Owns(name, id string) bool
	// CheckPrincipals refuses a policy that names somebody who does not exist.
	CheckPrincipals(p *iam.Policy) error
}

// WebIdentities verifies the tokens of an identity provider. *iam.OIDC is one.
type WebIdentities interface {
	// Verify returns whom a token is about, and the policies that it names. ErrInvalid for a token that is not good,
	// iam.ErrExpired for one that was.
	Verify(ctx context.Context, token string) (iam.WebIdentity, error)
}

// Observer is told of every finished request. Observe is called by many goroutines and must not block.
type Observer interface {
	Observe(Observation)
}

// Observation is one finished request.
type Observation struct {
	Operation string // "GetObject" …; "" for a request that no operation was found for
	Code      string // S3's error code, "" for success
	Status    int    // HTTP status, 0 if the connection was cut
	BytesIn   int64  // of the body
	BytesOut  int64  // of the body
	Duration  time.Duration
}
