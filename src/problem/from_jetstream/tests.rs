use super::*;

fn problem(err_code: u64, description: &str) -> Problem {
    Problem::from_jetstream(&JetStreamError {
        code: 400,
        err_code,
        description: description.to_owned(),
    })
}

/// The sentences are those of nats-server.
const ROWS: &[(u64, &str, u16, &str)] = &[
    (
        10002,
        "resource limits exceeded for account",
        507,
        "stream-full",
    ),
    (10003, "bad request", 400, "invalid-body"),
    (10004, "incomplete results", 503, "jetstream-unavailable"),
    (10005, "no suitable peers for placement", 409, "conflict"),
    (
        10006,
        "JetStream not in clustered mode",
        503,
        "jetstream-unavailable",
    ),
    (
        10007,
        "JetStream cluster not assigned to this server",
        503,
        "jetstream-unavailable",
    ),
    (
        10008,
        "JetStream system temporarily unavailable",
        503,
        "jetstream-unavailable",
    ),
    (
        10009,
        "JetStream cluster can not handle request",
        503,
        "jetstream-unavailable",
    ),
    (
        10010,
        "JetStream clustering support required",
        409,
        "conflict",
    ),
    (
        10011,
        "tags placement not supported for operation",
        400,
        "invalid-body",
    ),
    (10012, "ack policy can not be updated", 409, "conflict"),
    (10013, "consumer name already in use", 409, "conflict"),
    (10014, "consumer not found", 404, "consumer-not-found"),
    (10015, "deliver subject not valid", 400, "invalid-body"),
    (
        10016,
        "consumer expected to be durable but no durable name set in subject",
        400,
        "invalid-body",
    ),
    (
        10017,
        "consumer name in subject does not match durable name in request",
        400,
        "invalid-body",
    ),
    (
        10018,
        "consumer expected to be durable but a durable name was not set",
        400,
        "invalid-body",
    ),
    (
        10019,
        "consumer expected to be ephemeral but detected a durable name set in subject",
        400,
        "invalid-body",
    ),
    (
        10020,
        "consumer expected to be ephemeral but a durable name was set in request",
        400,
        "invalid-body",
    ),
    (
        10021,
        "stream external api prefix a must not overlap with b",
        400,
        "invalid-body",
    ),
    (
        10022,
        "stream external delivery prefix a overlaps with stream subject b",
        400,
        "invalid-body",
    ),
    (10023, "insufficient resources", 507, "stream-full"),
    (
        10024,
        "stream external delivery prefix a must not contain wildcards",
        400,
        "invalid-body",
    ),
    (
        10025,
        "invalid JSON: unexpected end of JSON input",
        400,
        "invalid-body",
    ),
    (10026, "maximum consumers limit reached", 409, "conflict"),
    (10027, "maximum number of streams reached", 409, "conflict"),
    (
        10028,
        "insufficient memory resources available",
        507,
        "stream-full",
    ),
    (
        10030,
        "stream mirror must have max message size >= source",
        400,
        "invalid-body",
    ),
    (
        10031,
        "stream mirrors can not also contain other sources",
        400,
        "invalid-body",
    ),
    (
        10032,
        "stream mirrors can not have both start seq and start time configured",
        400,
        "invalid-body",
    ),
    (
        10033,
        "stream mirrors can not contain filtered subjects",
        400,
        "invalid-body",
    ),
    (
        10034,
        "stream mirrors can not contain subjects",
        400,
        "invalid-body",
    ),
    (10035, "account not found", 501, "jetstream-not-enabled"),
    (
        10036,
        "not currently supported in clustered mode",
        409,
        "conflict",
    ),
    (10037, "no message found", 404, "message-not-found"),
    (
        10039,
        "JetStream not enabled for account",
        501,
        "jetstream-not-enabled",
    ),
    (10040, "peer not a member", 409, "conflict"),
    (10043, "sequence 7 not found", 404, "message-not-found"),
    (
        10044,
        "server is not a member of the cluster",
        409,
        "conflict",
    ),
    (
        10046,
        "stream source must have max message size >= target",
        400,
        "invalid-body",
    ),
    (
        10047,
        "insufficient storage resources available",
        507,
        "stream-full",
    ),
    (
        10052,
        "duplicates window can not be larger then max age",
        400,
        "invalid-body",
    ),
    (
        10052,
        "stream configuration update can not change storage type",
        409,
        "conflict",
    ),
    (
        10054,
        "message size exceeds maximum allowed",
        413,
        "payload-too-large",
    ),
    (
        10055,
        "stream mirror configuration can not be updated",
        409,
        "conflict",
    ),
    (
        10056,
        "stream name in subject does not match request",
        400,
        "invalid-body",
    ),
    (
        10058,
        "stream name already in use with a different configuration",
        409,
        "conflict",
    ),
    (10059, "stream not found", 404, "stream-not-found"),
    (10060, "expected stream does not match", 412, "wrong-stream"),
    (
        10061,
        "Replicas configuration can not be updated",
        409,
        "conflict",
    ),
    (
        10063,
        "expected stream sequence does not match",
        503,
        "jetstream-unavailable",
    ),
    (
        10065,
        "subjects overlap with an existing stream",
        409,
        "conflict",
    ),
    (10070, "wrong last msg ID: a", 412, "wrong-last-sequence"),
    (10071, "wrong last sequence: 41", 412, "wrong-last-sequence"),
    (
        10074,
        "replicas > 1 not supported in non-clustered mode",
        409,
        "conflict",
    ),
    (10076, "JetStream not enabled", 501, "jetstream-not-enabled"),
    (10077, "maximum messages exceeded", 507, "stream-full"),
    (10077, "maximum bytes exceeded", 507, "stream-full"),
    (
        10077,
        "maximum messages per subject exceeded",
        507,
        "stream-full",
    ),
    (
        10077,
        "write /x/msgs/1.blk: no space left on device",
        507,
        "stream-full",
    ),
    (10077, "store is closed", 503, "jetstream-unavailable"),
    (10078, "consumer config required", 400, "invalid-body"),
    (
        10084,
        "consumer in pull mode requires explicit ack policy on workqueue stream",
        400,
        "invalid-body",
    ),
    (
        10093,
        "consumer filter subject is not a valid subset of the interest subjects",
        400,
        "invalid-body",
    ),
    (
        10094,
        "consumer delivery policy is deliver by start sequence, but optional start sequence is not set",
        400,
        "invalid-body",
    ),
    (
        10095,
        "failed to parse consumer sampling configuration: x",
        400,
        "invalid-body",
    ),
    (
        10097,
        "header size exceeds maximum allowed of 64k",
        431,
        "headers-too-large",
    ),
    (
        10098,
        "workqueue stream requires explicit ack",
        400,
        "invalid-body",
    ),
    (
        10099,
        "multiple non-filtered consumers not allowed on workqueue stream",
        409,
        "conflict",
    ),
    (
        10100,
        "filtered consumer not unique on workqueue stream",
        409,
        "conflict",
    ),
    (
        10101,
        "consumer must be deliver all on workqueue stream",
        400,
        "invalid-body",
    ),
    (
        10102,
        "consumer name is too long, maximum allowed is 255",
        400,
        "invalid-body",
    ),
    (
        10103,
        "durable name can not contain '.', '*', '>'",
        400,
        "invalid-body",
    ),
    (
        10105,
        "consumer already exists and is still active",
        409,
        "conflict",
    ),
    (
        10106,
        "consumer replacement durable config not the same",
        409,
        "conflict",
    ),
    (
        10107,
        "consumer description is too long, maximum allowed is 4096",
        400,
        "invalid-body",
    ),
    (10109, "invalid operation on sealed stream", 409, "conflict"),
    (
        10113,
        "account requires a stream config to have max bytes set",
        400,
        "invalid-body",
    ),
    (
        10116,
        "max deliver is required to be > length of backoff values",
        400,
        "invalid-body",
    ),
    (10118, "stream is offline", 503, "jetstream-unavailable"),
    (10119, "consumer is offline", 503, "jetstream-unavailable"),
    (
        10120,
        "no JetStream default or applicable tiered limit present",
        409,
        "conflict",
    ),
    (
        10121,
        "consumer max ack pending exceeds system limit of 9",
        400,
        "invalid-body",
    ),
    (
        10122,
        "stream max bytes exceeds account limit max stream bytes",
        507,
        "stream-full",
    ),
    (
        10123,
        "can not move and scale a stream in a single update",
        409,
        "conflict",
    ),
    (10124, "stream move already in progress", 409, "conflict"),
    (
        10125,
        "consumer max request batch exceeds server limit of 9",
        400,
        "invalid-body",
    ),
    (
        10128,
        "Stream name can not contain path separators",
        400,
        "invalid-body",
    ),
    (
        10129,
        "stream reconfiguration not in progress",
        409,
        "conflict",
    ),
    (
        10131,
        "Consumer create request did not match filtered subject from create subject",
        400,
        "invalid-body",
    ),
    (
        10136,
        "consumer cannot have both FilterSubject and FilterSubjects specified",
        400,
        "invalid-body",
    ),
    (10147, "source filters can not overlap", 400, "invalid-body"),
    (10148, "consumer already exists", 409, "conflict"),
    (10149, "consumer does not exist", 404, "consumer-not-found"),
    (
        10150,
        "mirror with multiple subject transforms cannot also have a single subject filter",
        400,
        "invalid-body",
    ),
    (10157, "pedantic mode: x", 400, "invalid-body"),
    (10158, "duplicate message id is in process", 409, "conflict"),
    (
        10159,
        "Setting PriorityPolicy requires at least one PriorityGroup to be set",
        400,
        "invalid-body",
    ),
    (
        10163,
        "expected last sequence per subject temporarily unavailable",
        503,
        "jetstream-unavailable",
    ),
    (10164, "wrong last sequence", 412, "wrong-last-sequence"),
    (10165, "invalid per-message TTL", 400, "invalid-parameter"),
    (10166, "per-message TTL is disabled", 409, "conflict"),
    (10167, "too many requests", 503, "jetstream-unavailable"),
    (10168, "message counters is disabled", 409, "conflict"),
    (
        10169,
        "message counter increment is missing",
        400,
        "invalid-body",
    ),
    (10172, "message counter is broken", 409, "conflict"),
    (
        10173,
        "stream mirrors can not also calculate counters",
        400,
        "invalid-body",
    ),
    (10174, "atomic publish is disabled", 409, "conflict"),
    (
        10179,
        "atomic publish batch ID is invalid",
        400,
        "invalid-body",
    ),
    (10180, "min last sequence", 412, "wrong-last-sequence"),
    (
        10184,
        "consumer backoff needs to be positive",
        400,
        "invalid-body",
    ),
    (
        10185,
        "JetStream minimum api level required",
        501,
        "not-supported",
    ),
    (
        10187,
        "stream source can not also schedule messages",
        400,
        "invalid-body",
    ),
    (10188, "message schedules is disabled", 409, "conflict"),
    (
        10193,
        "missing sequence for expected last sequence per subject",
        400,
        "invalid-body",
    ),
    (10194, "stream is offline: x", 503, "jetstream-unavailable"),
    (
        10195,
        "consumer is offline: x",
        503,
        "jetstream-unavailable",
    ),
    (
        10200,
        "atomic publish batch commit is invalid",
        400,
        "invalid-body",
    ),
    (
        10201,
        "atomic publish batch contains duplicate message id",
        409,
        "conflict",
    ),
    (
        10202,
        "cluster member change is in progress",
        409,
        "conflict",
    ),
    (
        10203,
        "message schedules source is invalid",
        400,
        "invalid-body",
    ),
    (10204, "invalid reset: x", 400, "invalid-body"),
    (10205, "batch publish is disabled", 409, "conflict"),
    (10207, "batch publish ID is invalid", 400, "invalid-body"),
    (10208, "batch publish ID unknown", 409, "conflict"),
    (
        10209,
        "stream mirrors can not also use batch publishing",
        400,
        "invalid-body",
    ),
    (
        10210,
        "atomic publish too many inflight",
        503,
        "jetstream-unavailable",
    ),
    (
        10211,
        "batch publish too many inflight",
        503,
        "jetstream-unavailable",
    ),
    (
        10223,
        "message schedules time zone is invalid",
        400,
        "invalid-body",
    ),
    (
        10225,
        "consumer's stream identity does not match: x",
        409,
        "conflict",
    ),
    (
        10226,
        "stream reconfiguration already in progress",
        409,
        "conflict",
    ),
    // What has no row.
    (10041, "raft: something", 502, "nats-error"),
    (
        10224,
        "JetStream system rescue not applied: x",
        502,
        "nats-error",
    ),
    (19999, "from a server of the future", 502, "nats-error"),
    (0, "", 502, "nats-error"),
];

#[test]
fn every_row_has_its_status_and_code() {
    for (err_code, description, status, code) in ROWS {
        let problem = problem(*err_code, description);
        assert_eq!(problem.code().as_str(), *code, "{err_code} {description}");
        assert_eq!(problem.http_status(), *status, "{err_code} {description}");
        let body = problem.to_json(None);
        assert_eq!(body["nats"]["err_code"], *err_code);
        assert_eq!(body["nats"]["description"], *description);
        assert_eq!(
            problem.is_retryable(),
            *code == "jetstream-unavailable",
            "{err_code}"
        );
        assert_ne!(problem.message_outcome(), Outcome::Unknown, "{err_code}");
    }
}

#[test]
fn every_number_of_the_table_is_tested() {
    for err_code in PASSING.iter().chain(CONFLICTS) {
        assert!(ROWS.iter().any(|row| row.0 == *err_code), "{err_code}");
    }
}

#[test]
fn a_wrong_last_sequence_says_the_right_one() {
    assert_eq!(
        problem(10071, "wrong last sequence: 41").to_json(None)["current"],
        41
    );
    assert!(
        problem(10164, "wrong last sequence")
            .to_json(None)
            .get("current")
            .is_none()
    );
}

#[test]
fn a_leader_that_is_none_any_more_has_no_number_and_passes() {
    let text = r#"{"code":503,"description":"raft: not leader"}"#;
    let problem = Problem::from_jetstream(&serde_json::from_str(text).unwrap());
    assert_eq!(problem.code(), Code::JetStreamUnavailable);
    assert!(problem.is_retryable());
}

#[test]
fn an_answer_of_an_old_server_can_be_read() {
    let error: JetStreamError = serde_json::from_str(r#"{"code":404,"description":"x"}"#).unwrap();
    assert_eq!((error.err_code, error.description.as_str()), (0, "x"));
}
