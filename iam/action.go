package iam

import (
	"slices"
	"strings"
)

// objectActions are S3's actions on objects; what is not among them and not among bucketActions and accountActions is none.
// Source: "Actions, resources, and condition keys for Amazon S3" in the Service Authorization Reference.
var objectActions = words(`AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectTagging DeleteObjectVersion
	DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging
	GetObjectTorrent GetObjectVersion GetObjectVersionAcl GetObjectVersionAttributes GetObjectVersionForReplication
	GetObjectVersionTagging GetObjectVersionTorrent InitiateReplication ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner
	PutObject PutObjectAcl PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging
	RenameObject ReplicateDelete ReplicateObject ReplicateTags RestoreObject SelectObjectContent UpdateObjectEncryption`)

var bucketActions = words(`CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration
	DeleteBucketPolicy DeleteBucketWebsite GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS
	GetBucketLocation GetBucketLogging GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration
	GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment
	GetBucketTagging GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration GetIntelligentTieringConfiguration
	GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration GetReplicationConfiguration ListBucket
	ListBucketMultipartUploads ListBucketVersions PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAbac PutBucketAcl
	PutBucketCORS PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy
	PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning PutBucketWebsite
	PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration PutLifecycleConfiguration
	PutMetricsConfiguration PutReplicationConfiguration ListTagsForResource TagResource UntagResource GetBucketQuota PutBucketQuota`)

var accountActions = words(`ListAllMyBuckets GetAccountPublicAccessBlock PutAccountPublicAccessBlock CreateJob ListJobs DescribeJob`)

func words(s string) []string {
	list := strings.Fields(s)
	slices.Sort(list)
	return list
}

// validAction tells whether a pattern in Action can mean anything: "*", or a service that Cairn has and, of S3, an operation
// that exists.
func validAction(s string) bool {
	if s == "*" {
		return true
	}
	service, name, ok := strings.Cut(s, ":")
	switch strings.ToLower(service) {
	case "s3":
		return ok && (anyActionFits(name, objectActions) || anyActionFits(name, bucketActions) || anyActionFits(name, accountActions))
	case "cairn", "admin", "sts": // admin: what cairn's actions were once called; such policies stay readable
		return ok && name != ""
	}
	return false
}

// ofCairn tells whether an action is one of the store's own (package admin), which are about no bucket.
func ofCairn(action string) bool { return strings.HasPrefix(action, "cairn:") }

// anyActionFits tells whether a pattern of an operation's name fits one of the names.
func anyActionFits(name string, names []string) bool {
	p := compile(name, true, false)
	return slices.ContainsFunc(names, func(s string) bool { return p.match(s, true, nil) })
}
