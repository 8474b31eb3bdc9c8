//! How natsway answers a server's challenge, with credentials read for one connection.

use super::settings::Auth;

/// Credentials as read for one connection.
pub(super) enum Credentials {
    None,
    User(String, String),
    Token(String),
    Nkey(nkeys::KeyPair),
    Jwt(String, nkeys::KeyPair),
}

impl Credentials {
    pub(super) fn read(auth: &Auth) -> Result<Self, String> {
        Ok(match auth {
            Auth::None => Self::None,
            Auth::User { user, password } => Self::User(user.clone(), password.read()?),
            Auth::Token(token) => Self::Token(token.read()?),
            Auth::Nkey(seed) => Self::Nkey(key_pair(&seed.read()?)?),
            Auth::Credentials(file) => Self::from_credentials(&file.read()?)?,
        })
    }

    fn from_credentials(text: &str) -> Result<Self, String> {
        let jwt = armoured(text, "NATS USER JWT").ok_or("no user JWT in the credentials file")?;
        let seed =
            armoured(text, "USER NKEY SEED").ok_or("no user nkey seed in the credentials file")?;
        Ok(Self::Jwt(jwt.to_owned(), key_pair(seed)?))
    }

    pub(super) fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, String> {
        let mut auth = async_nats::Auth::new();
        let sign = |key: &nkeys::KeyPair| key.sign(nonce).map_err(|error| error.to_string());
        match self {
            Self::None => {}
            Self::User(user, password) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.clone());
            }
            Self::Token(token) => auth.token = Some(token.clone()),
            Self::Nkey(key) => {
                auth.nkey = Some(key.public_key());
                auth.signature = Some(sign(key)?);
            }
            Self::Jwt(jwt, key) => {
                auth.jwt = Some(jwt.clone());
                auth.signature = Some(sign(key)?);
            }
        }
        Ok(auth)
    }
}

fn key_pair(seed: &str) -> Result<nkeys::KeyPair, String> {
    // The library's error would quote nothing of the seed, but a sentence of ours says what to do.
    nkeys::KeyPair::from_seed(seed.trim())
        .map_err(|_| "not the seed of a user nkey (SU…)".to_owned())
}

/// The text between `-----BEGIN <label>-----` and the next line of dashes.
fn armoured<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let begin = format!("BEGIN {label}-----");
    let start = text.find(&begin)? + begin.len();
    let rest = &text[start..];
    Some(rest[..rest.find("-----")?].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_taken_apart() {
        let user = nkeys::KeyPair::new_user();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.abc.def\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        );
        let Ok(Credentials::Jwt(jwt, key)) = Credentials::from_credentials(&text) else {
            panic!("not understood")
        };
        assert_eq!(jwt, "eyJ.abc.def");
        assert_eq!(key.public_key(), user.public_key());
        assert!(Credentials::from_credentials("nothing").is_err());
    }
}
