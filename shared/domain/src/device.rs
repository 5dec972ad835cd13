//! Devices: installed apps that can be pushed to.

use std::{fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Refusal, Result,
    cursor::Position,
    error::{Invalid, Kind},
    ids::UserId,
    input::{Fields, parsed, text},
    push::{Endpoint, PushGateway},
    time::Timestamp,
};

/// An app's own name for its installation: 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

impl DeviceId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Position for DeviceId {
    fn to_bytes(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl FromStr for DeviceId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("invalid_id", "must be 1 to 64 of A-Z, a-z, 0-9, ., _ and -"))
        }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who carries the push on its last mile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Apple's push notification service.
    Apns,
    /// Firebase Cloud Messaging.
    Fcm,
}

impl FromStr for Platform {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "apns" => Ok(Self::Apns),
            "fcm" => Ok(Self::Fcm),
            _ => Err(Invalid::new("not_in_list", "must be apns or fcm")),
        }
    }
}

/// What a platform knows an installation by.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceToken {
    /// Whose token it is.
    pub platform: Platform,
    /// The token: 1 to 4,096 visible ASCII characters.
    pub token: String,
}

impl fmt::Debug for DeviceToken {
    /// Without the token: who has it, and a platform's key, can push.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceToken").field("platform", &self.platform).finish_non_exhaustive()
    }
}

impl DeviceToken {
    /// Reads the body of `put-device`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let platform = fields.required("platform", parsed(str::parse));
        let token = fields.required("token", |value| {
            text(1, 4_096)(value).and_then(|token| {
                if token.chars().all(|c| c.is_ascii_graphic()) {
                    Ok(token)
                } else {
                    Err(Invalid::new("invalid_character", "must be visible ASCII characters"))
                }
            })
        });
        let (Some(platform), Some(token)) = (platform, token) else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { platform, token })
    }
}

/// A device, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id, which its app chose.
    pub device_id: DeviceId,
    /// What the platform knows it by.
    pub token: DeviceToken,
    /// Where pushes to it are sent.
    pub endpoint: Endpoint,
    /// When it was first put.
    pub created_at: Timestamp,
    /// When it was last put.
    pub updated_at: Timestamp,
}

/// A device, as its owner sees it: without its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceView {
    /// Its id.
    pub device_id: DeviceId,
    /// Its platform.
    pub platform: Platform,
    /// When it was first put.
    pub created_at: Timestamp,
    /// When it was last put.
    pub updated_at: Timestamp,
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        let Device { device_id, token, created_at, updated_at, .. } = device;
        Self { device_id, platform: token.platform, created_at, updated_at }
    }
}

/// The refusal of a token that its platform does not take.
#[must_use]
pub fn bad_token() -> Refusal {
    Refusal::invalid(vec![
        Invalid::new("invalid_token", "the platform does not know such tokens").at("/token"),
    ])
}

/// The refusal of a device of a platform that is not set up here: another try does not help.
#[must_use]
pub fn no_platform() -> Refusal {
    Refusal::invalid(vec![
        Invalid::new("platform_not_set_up", "nothing is pushed to this platform here").at("/platform"),
    ])
}

/// The most devices that one user has.
pub const MOST_DEVICES: usize = 20;

/// Reads one user's devices.
pub trait Devices: Sync {
    /// All of them, by id.
    fn of(&self, owner: UserId) -> impl Future<Output = Result<Vec<Device>>> + Send;
}

/// Changes one user's devices.
pub trait DeviceEditor: Devices {
    /// Adds a device, or changes it. Its token is nobody else's afterwards: who signs in on a device takes it over.
    fn put(&self, owner: UserId, device: &Device) -> impl Future<Output = Result<()>> + Send;
    /// Removes a device, and answers what it was.
    fn remove(&self, owner: UserId, id: &DeviceId) -> impl Future<Output = Result<Option<Device>>> + Send;
    /// Gives a device another endpoint, if it is still there with the token that was seen; answers whether it was.
    fn repair(
        &self,
        owner: UserId,
        seen: &Device,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<bool>> + Send;
    /// Removes a device, if it was not put again since it was seen; answers whether it was removed.
    fn remove_if(&self, owner: UserId, seen: &Device) -> impl Future<Output = Result<bool>> + Send;
}

/// Adds a device, or gives it a new token. The endpoint comes first: a crash leaves one that the next try finds again.
/// The one of the token before goes last.
pub async fn put(
    devices: &impl DeviceEditor,
    gateway: &impl PushGateway,
    owner: UserId,
    device_id: DeviceId,
    token: DeviceToken,
    now: Timestamp,
) -> Result<Device> {
    let mine = devices.of(owner).await?;
    let known = mine.iter().find(|device| device.device_id == device_id);
    if known.is_none() && mine.len() >= MOST_DEVICES {
        let detail = format!("a user has at most {MOST_DEVICES} devices");
        return Err(Refusal::new(Kind::Conflict, "too_many_devices", detail).into());
    }
    let created_at = known.map_or(now, |device| device.created_at);
    let endpoint = gateway.register(owner, &device_id, &token).await?;
    let device = Device { device_id, token, endpoint, created_at, updated_at: now };
    devices.put(owner, &device).await?;
    if let Some(replaced) = known.filter(|known| known.endpoint != device.endpoint) {
        unregister(gateway, &replaced.endpoint).await;
    }
    Ok(device)
}

/// Removes a device. Its endpoint goes last, and if that fails, nothing is sent to it any more.
pub async fn remove(
    devices: &impl DeviceEditor,
    gateway: &impl PushGateway,
    owner: UserId,
    device_id: &DeviceId,
) -> Result<()> {
    let device = devices.remove(owner, device_id).await?.ok_or_else(|| Refusal::not_found("device"))?;
    unregister(gateway, &device.endpoint).await;
    Ok(())
}

/// Removes the endpoint of a token that no device has any more. If it stays behind, nothing is sent to it; if somebody
/// has put the token meanwhile, it is made again with their next push.
pub(crate) async fn unregister(gateway: &impl PushGateway, endpoint: &Endpoint) {
    if let Err(error) = gateway.unregister(endpoint).await {
        tracing::warn!(%error, "an endpoint without a device stays behind");
    }
}
